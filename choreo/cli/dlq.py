"""`choreo dlq`: dead letters, records that no step could read or handle, and giving them back."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.publish import Receipt
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, FlowOption, in_app
from choreo.cli.shapes import of_letter, of_letter_and_record, of_receipt
from choreo.core.errors import ConflictError, SettingsError
from choreo.core.events import to_headers
from choreo.ports.dead_letters import DeadLetter
from choreo.wiring import App

cli: typer.Typer = group("List, show and redrive dead letters.")

PAGE = 500
"""Letters read at once when all are given back."""

LetterArgument = Annotated[str, typer.Argument(help="The letter's id, as `choreo dlq list` shows it.")]


@cli.command("list")
def list_(
    flow: FlowArgument = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    cursor: Annotated[str, typer.Option(help="The cursor of the page before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List dead letters, newest first; without FLOW those of every flow."""

    async def ask(app: App) -> list[DeadLetter]:
        return await app.queries.dead_letters(flow, limit, cursor)

    letters = in_app(ask)
    following = letters[-1].id if len(letters) == limit else ""
    if output is Format.JSON:
        document({"items": [of_letter(letter) for letter in letters], "cursor": following})
        return
    rows = [
        (each.id, each.record.event.key, each.record.event.type, each.step or each.service, each.redriven, each.cause)
        for each in letters
    ]
    table(("id", "key", "event", "step", "redriven", "cause"), rows)
    if following:
        write(plain(f"more: --cursor {following}"))


@cli.command("show")
def show(letter_id: LetterArgument, *, output: Output = Format.TABLE) -> None:
    """Show one dead letter with its record."""

    async def ask(app: App) -> DeadLetter:
        return await app.queries.dead_letter(letter_id)

    letter = in_app(ask)
    if output is Format.JSON:
        document(of_letter_and_record(letter))
        return
    shown = {**of_letter(letter), **to_headers(letter.record.event), "value": letter.record.event.data}
    table(("", ""), shown.items())


@cli.command("redrive")
def redrive(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `choreo dlq list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every letter that was not given back yet.")] = False,
    flow: FlowOption = "",
    output: Output = Format.TABLE,
) -> None:
    """Give dead letters back to the step they failed in, under their old id.

    With --all, those that are refused do not keep the others, and make it exit with 1.
    """
    if every == bool(letter_ids):
        raise SettingsError(
            "which letters are meant is not said" if not every else "--all and ids exclude each other",
            where="choreo dlq redrive",
            remedy="Name their ids, or give --all.",
        )
    receipts, refused = in_app(lambda app: _all(app, flow) if every else _named(app, letter_ids or []))
    if output is Format.JSON:
        shown = [{"id": letter, "what": error.what, "remedy": error.remedy} for letter, error in refused.items()]
        document({"redriven": [of_receipt(receipt) for receipt in receipts], "refused": shown})
    else:
        for receipt in receipts:
            write(plain(f"gave {receipt.type} of {receipt.flow} {receipt.key} back"))
        for letter, error in refused.items():
            write(plain(f"refused {letter}: {error.what}. {error.remedy}"))
        write(f"{len(receipts)} given back, {len(refused)} refused")
    if refused:
        raise typer.Exit(PROBLEM)


async def _named(app: App, letter_ids: list[str]) -> tuple[list[Receipt], dict[str, ConflictError]]:
    """The first that is refused ends it: somebody has named it."""
    return [await app.operator.redrive(letter_id) for letter_id in letter_ids], {}


async def _all(app: App, flow: str) -> tuple[list[Receipt], dict[str, ConflictError]]:
    """Every one that was not given back yet; what is refused does not keep the others."""
    receipts: list[Receipt] = []
    refused: dict[str, ConflictError] = {}
    after = ""
    while page := await app.queries.dead_letters(flow, PAGE, after):
        for letter in page:
            if letter.redriven:
                continue
            try:
                receipts.append(await app.operator.redrive(letter.id))
            except ConflictError as error:
                refused[letter.id] = error
        after = page[-1].id
    return receipts, refused
