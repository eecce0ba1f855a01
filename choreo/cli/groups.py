"""`choreo groups`: list consumer groups by partition: owner, committed offset, lag and the time it will take."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from choreo.app.query.groups import Group, GroupPartition
from choreo.app.query.status_text import moment
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen_or_all, in_app
from choreo.core.wording import counted
from choreo.surfaces.group_format import groups_of
from choreo.wiring import App

WATCH_S = 1.0


def groups(
    flow: FlowArgument = "",
    *,
    lagging: Annotated[bool, typer.Option("--lagging", help="Only partitions with a lag or without an owner.")] = False,
    watch: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds between the two looks that make a rate.")
    ] = WATCH_S,
    output: Output = Format.TABLE,
) -> None:
    """List consumer groups by partition; without FLOW those of every flow.

    Rates need two looks: where a group has a lag, a second one is taken after --watch seconds.
    """

    async def look(app: App, flows: list[str]) -> list[Group]:
        return [group for name in flows for group in await app.queries.groups(name)]

    async def ask(app: App) -> list[Group]:
        flows = chosen_or_all(app.flows, flow)
        found = await look(app, flows)
        if watch and any(group.lag for group in found):
            await asyncio.sleep(watch)
            found = await look(app, flows)
        return found

    found = in_app(ask)
    if output is Format.JSON:
        document(groups_of(found).model_dump())
        return
    cells = [
        _cells(group, each) for group in found for each in group.partitions if not lagging or each.lag or not each.owner
    ]
    table(("flow", "group", "partition", "owner", "committed", "end", "lag", "rate", "ETA", "last progress"), cells)
    for group in found:
        _remarks(group)


def _cells(group: Group, each: GroupPartition) -> tuple[object, ...]:
    owner = f"{each.owner} ({each.host})" if each.host else each.owner
    return (
        group.flow,
        group.name,
        each.partition,
        owner or "none",
        each.committed,
        each.end,
        each.lag,
        "" if each.rate is None else f"{each.rate:,.1f}/s",
        eta_text(each.eta_s) if each.lag else "",
        moment(each.progress_ms) if each.progress_ms else "",
    )


def eta_text(eta_s: float | None) -> str:
    """Return the time until a lag is gone, for a person."""
    if eta_s is None:
        return "not known"
    return f"{eta_s:,.0f} s" if eta_s < 600 else f"{eta_s / 60:,.0f} min"


def _remarks(group: Group) -> None:
    """Print the changes of a group that was seen to change."""
    place = f"group {group.name} of {group.flow}"
    for name in group.contested:
        write(plain(f"{place}: the instance {name} is taken over again and again: processes share it"))
    if group.changes:
        last = group.changes[-1]
        text = f"{counted(len(group.changes), 'change')} of its members, the last at {moment(last.at_ms)}"
        write(plain(f"{place}: {text}"))
