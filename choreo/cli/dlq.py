"""`choreo dlq`: list and show dead letters (records that no step could read or handle), and redrive them."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from choreo.app.operator.batch_plans import Draft, Wish
from choreo.app.operator.preview import Preview
from choreo.app.publish.publisher import Receipt
from choreo.app.query.dead_letter_groups import DeadLetterGroup
from choreo.cli.batch import Rate, planned, planner_of, rate_of
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.operate import DryRun, show_preview
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, FlowOption, chosen, in_app, os_user
from choreo.core.batch import REDRIVE
from choreo.core.errors import ConflictError, SettingsError
from choreo.core.events import to_headers
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces.batch_format import GroupAnswer
from choreo.surfaces.json_format import dead_letter_and_record_of, dead_letter_of, receipt_of
from choreo.wiring import App

cli: typer.Typer = group("List, show and redrive dead letters.")

PAGE = 500
"""Dead letters read at once when all are redriven."""

DeadLetterArgument = Annotated[str, typer.Argument(help="The dead letter's id, as `choreo dlq list` shows it.")]


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

    dead_letters = in_app(ask)
    following = dead_letters[-1].id if len(dead_letters) == limit else ""
    if output is Format.JSON:
        document(
            {"items": [dead_letter_of(dead_letter).model_dump() for dead_letter in dead_letters], "cursor": following}
        )
        return
    rows = [
        (each.id, each.record.event.key, each.record.event.type, each.step or each.service, each.redriven, each.cause)
        for each in dead_letters
    ]
    table(("id", "key", "event", "step", "redriven", "cause"), rows)
    if following:
        write(plain(f"more: --cursor {following}"))


@cli.command("show")
def show(dead_letter_id: DeadLetterArgument, *, output: Output = Format.TABLE) -> None:
    """Show one dead letter with its record."""

    async def ask(app: App) -> DeadLetter:
        return await app.queries.dead_letter(dead_letter_id)

    dead_letter = in_app(ask)
    if output is Format.JSON:
        document(dead_letter_and_record_of(dead_letter).model_dump())
        return
    shown = {
        **dead_letter_of(dead_letter).model_dump(),
        **to_headers(dead_letter.record.event),
        "value": dead_letter.record.event.data,
    }
    table(("", ""), shown.items())


@cli.command("groups")
def groups(flow: FlowArgument = "", *, output: Output = Format.TABLE) -> None:
    """List dead letters in groups of one step, event, schema and cause, the largest first."""

    async def ask(app: App) -> list[DeadLetterGroup]:
        return await planner_of(app).groups(chosen(app.flows, flow))

    found = in_app(ask)
    if output is Format.JSON:
        document({"items": [GroupAnswer.model_validate(each).model_dump(by_alias=True) for each in found]})
        return
    rows = [(each.id, each.count, each.redriven, each.schema, each.step, each.cause) for each in found]
    table(("group", "count", "redriven", "event", "step", "cause"), rows)


@cli.command("redrive")
def redrive(
    dead_letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `choreo dlq list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter that was not redriven yet.")] = False,
    of_group: Annotated[str, typer.Option("--group", help="The letters of this group, as `dlq groups` shows it.")] = "",
    rate: Rate = "",
    flow: FlowOption = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Give dead letters back to the step they failed in, under their old id.

    With --all, those that are refused do not keep the others, and make it exit with 1. With --group, --rate or a dry
    run of --all it is a batch (`choreo batch`) of one flow.
    """
    if of_group or rate or (every and dry_run):
        _refuse_both(of_group, every=every, named=bool(dead_letter_ids))
        _batch(of_group, rate or "100/s", flow, output, dry_run=dry_run)
        return
    if every == bool(dead_letter_ids):
        raise SettingsError(
            "no dead letter is named" if not every else "--all and ids exclude each other",
            where="choreo dlq redrive",
            remedy="Name their ids, or give --all.",
        )
    if dry_run:
        for preview in in_app(lambda app: _previews(app, dead_letter_ids or [])):
            show_preview(preview, output)
        return
    receipts, refused = in_app(lambda app: _all(app, flow) if every else _named(app, dead_letter_ids or []))
    if output is Format.JSON:
        shown = [
            {"id": dead_letter, "what": error.what, "remedy": error.remedy} for dead_letter, error in refused.items()
        ]
        document({"redriven": [receipt_of(receipt).model_dump() for receipt in receipts], "refused": shown})
    else:
        for receipt in receipts:
            write(plain(f"redriven: {receipt.type} of {receipt.flow} {receipt.key}"))
        for dead_letter, error in refused.items():
            write(plain(f"refused {dead_letter}: {error.what}. {error.remedy}"))
        write(f"{len(receipts)} redriven, {len(refused)} refused")
    if refused:
        raise typer.Exit(PROBLEM)


def _refuse_both(of_group: str, *, every: bool, named: bool) -> None:
    if named or bool(of_group) == every:
        raise SettingsError(
            "a batch takes one group, or all", where="choreo dlq redrive", remedy="Give --group GROUP or --all."
        )


def _batch(of_group: str, rate: str, flow: str, output: Format, *, dry_run: bool) -> None:
    async def plan(app: App) -> Draft:
        wish = Wish(REDRIVE, chosen(app.flows, flow), os_user(), rate_of(rate), secrets.token_hex(8))
        return await planner_of(app).of_dead_letters(wish, of_group)

    planned(plan, output, dry_run=dry_run)


async def _previews(app: App, dead_letter_ids: list[str]) -> list[Preview]:
    """Return the consequences of redriving these; the first refusal ends the call."""
    return [await app.operator.preview_of_redrive(dead_letter_id, by=os_user()) for dead_letter_id in dead_letter_ids]


async def _named(app: App, dead_letter_ids: list[str]) -> tuple[list[Receipt], dict[str, ConflictError]]:
    """Redrive these; the first refusal ends the call, because the caller named each id."""
    return [await app.operator.redrive(dead_letter_id, by=os_user()) for dead_letter_id in dead_letter_ids], {}


async def _all(app: App, flow: str) -> tuple[list[Receipt], dict[str, ConflictError]]:
    """Redrive every dead letter that was not redriven yet; a refusal does not stop the others."""
    receipts: list[Receipt] = []
    refused: dict[str, ConflictError] = {}
    after = ""
    while page := await app.queries.dead_letters(flow, PAGE, after):
        for dead_letter in page:
            if dead_letter.redriven:
                continue
            try:
                receipts.append(await app.operator.redrive(dead_letter.id, by=os_user()))
            except ConflictError as error:
                refused[dead_letter.id] = error
        after = page[-1].id
    return receipts, refused
