"""`choreo events`: list event types with declared and seen producers, consumers and schemas; differences are drift."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.query.catalogue import Catalogue, EventEntry
from choreo.app.query.status_text import moment
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen_or_all, in_app
from choreo.surfaces.catalogue_format import CatalogueList
from choreo.wiring import App


def events(
    flow: FlowArgument = "",
    *,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 on a difference to the declaration.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List event types: declared producers and consumers, and those in the newest records of the log.

    Without FLOW those of every flow. Undeclared events, producers, versions and fields are listed as drift.
    """

    async def ask(app: App) -> list[Catalogue]:
        return [await app.queries.catalogue(name) for name in chosen_or_all(app.flows, flow)]

    found = in_app(ask)
    if output is Format.JSON:
        document(CatalogueList.model_validate({"items": found}).model_dump())
    else:
        _print(found)
    if check and any(each.drift for each in found):
        raise typer.Exit(PROBLEM)


def _print(found: list[Catalogue]) -> None:
    rows = [_cells(entry) for each in found for entry in each.items]
    table(("flow", "event", "producers", "consumers", "seen", "last seen"), rows)
    for each in found:
        for sentence in each.drift:
            write(plain(f"drift in {each.flow}: {sentence}"))


def _cells(entry: EventEntry) -> tuple[object, ...]:
    seen = [part.name for part in entry.seen_producers if not part.declared]
    return (
        entry.flow,
        entry.type,
        ", ".join([*entry.producers, *(f"{name} (not declared)" for name in seen)]),
        ", ".join(consumer.name for consumer in entry.consumers),
        entry.count,
        moment(entry.last_ms) if entry.last_ms else "",
    )
