"""`choreo projections`: rebuild the tracker's states and the read model from the log."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from choreo.app.tracking.rebuild import changes, refusal
from choreo.cli.deferred import group
from choreo.cli.output import Format, Output, document, plain, write
from choreo.cli.project import FlowArgument, chosen, in_app
from choreo.core.flow_table import FlowTable
from choreo.wiring import App, run
from choreo.wiring.hosting import fields_reader

cli: typer.Typer = group("Rebuild states and read model from the log.")

LOOK_S = 0.05
"""How often the progress of the rebuild is read, in seconds."""


AcceptChanges = Annotated[bool, typer.Option("--accept-changes", help="Rebuild although statuses or effects change.")]


@cli.command("rebuild")
def rebuild(flow: FlowArgument = "", *, accept_changes: AcceptChanges = False, output: Output = Format.TABLE) -> None:
    """Drop a flow's states and read model, and fold the log again from its beginning.

    May run while everything runs: facts that the tracker published before are not published again. Refused, with the
    list, where the flow as declared now would change the status or the effects of an instance.
    """
    name, counts = in_app(lambda app: _rebuild(app, flow, accept_changes=accept_changes))
    if output is Format.JSON:
        document({"flow": name, "instances": counts})
        return
    shown = ", ".join(f"{number} {status}" for status, number in counts.items())
    write(plain(f"flow {name} rebuilt: {shown or 'no instances'}"))


async def _rebuild(app: App, flow: str, *, accept_changes: bool) -> tuple[str, dict[str, int]]:
    """Drop states and views, then let a tracker read up to the end that the log had at this moment."""
    name = chosen(app.flows, flow)
    log = app.backend.log
    found = await changes(
        FlowTable(app.definitions[name]), log, app.backend.read_model, fields_reader(app, app.flows[name])
    )
    if found and not accept_changes:
        raise refusal(name, found)
    ends = {number: await log.stable_end(name, number) for number in range(await log.partitions(name))}
    await app.backend.forget_views(name)
    stop = asyncio.Event()
    tracking = asyncio.create_task(run(app, app.beside[-1:], stop))
    try:
        while not tracking.done() and not await _reached(app, name, ends):
            await app.clock.sleep(LOOK_S)
    finally:
        stop.set()
        await tracking
    return name, await app.queries.counts(name)


async def _reached(app: App, flow: str, ends: dict[int, int]) -> bool:
    positions = await app.backend.read_model.positions(flow)
    return all(positions.get(number, 0) >= end for number, end in ends.items())
