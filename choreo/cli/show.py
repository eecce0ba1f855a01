"""`choreo show`: show one instance on one screen: its status, cause, waits and timeline; follow it on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from choreo.app.query.queries import Instance
from choreo.app.query.status_text import moment
from choreo.app.query.timeline import TimelineRow, timeline
from choreo.cli.output import Format, Output, document, flush, line, plain, table, write
from choreo.cli.project import FlowOption, KeyArgument, RunOption, caught_up, chosen, in_app
from choreo.core.durations import human
from choreo.surfaces.json_format import instance_of, timeline_of
from choreo.wiring import App

_STYLES = {
    "failed": "red",
    "stuck": "red",
    "compensation": "red",
    "timer": "yellow",
    "retry": "yellow",
    "undo": "yellow",
}


def show(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    watch: Annotated[bool, typer.Option("--watch", help="Go on printing events until the run has ended.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show one instance: its status, its cause, its waits, its ledger and its timeline."""
    if watch:
        in_app(lambda app: _watch(app, key, flow, run, output))
        return

    async def ask(app: App) -> tuple[Instance, list[TimelineRow]]:
        name = chosen(app.flows, flow)
        await caught_up(app, name, key)
        instance = await app.queries.instance(name, key, run)
        return instance, await app.queries.timeline(name, key, instance.row.run)

    instance, story = in_app(ask)
    if output is Format.JSON:
        document({**instance_of(instance).model_dump(), "timeline": timeline_of(story).model_dump()["items"]})
        return
    header(instance)
    write("")
    timeline_table(story)


def timeline_table(story: Sequence[TimelineRow]) -> None:
    """Print a timeline as a table, and below it the errors of its attempts."""
    rows = [_cells(row) for row in story]
    table(
        ("after", "event", "took", "undo", "what happened"), rows, styles=[_STYLES.get(row.kind, "") for row in story]
    )
    for row in story:
        _failure(row)


def _failure(row: TimelineRow) -> None:
    """Print the error of an attempt, its causes and its place in the code."""
    if row.failure is None:
        return
    failure = row.failure
    write("")
    write(plain(f"{row.step or row.type}, {_after(row.at_ms)}: {failure.type}: {failure.message}"))
    for cause in failure.causes:
        write(plain(f"  from {cause}"))
    for member in failure.members:
        write(plain(f"  holds {member}"))
    for frame in failure.frames:
        write(plain(f"  at {frame}"))


async def _watch(app: App, key: str, flow: str, run: str, output: Format) -> None:
    """Print each row of the timeline as it comes, and the header after the last."""
    flow = chosen(app.flows, flow)
    await caught_up(app, flow, key)
    definition, rows = app.queries.flows.table(flow), []
    run = run or (await app.queries.instance(flow, key)).row.run
    async for event in app.queries.follow(flow, key, run):
        if event is None:
            continue
        rows.append(event)
        newest = timeline(definition, rows)[-1]
        if output is Format.JSON:
            line(timeline_of([newest]).items[0].model_dump())
        else:
            write(plain("  ".join(_fixed(_cells(newest)))))
            _failure(newest)
            flush()
    if output is Format.TABLE:
        write("")
        header(await app.queries.instance(flow, key, run))


def header(instance: Instance) -> None:
    """Print the status, the waits, the next timer and the effects."""
    row, detail = instance.row, instance.detail
    lines = [(f"{row.flow} {row.key}", f"{row.status}{f': {row.cause}' if row.cause else ''}")]
    lines += [("run", row.run), ("trace", instance.trace), ("started", moment(row.started_ms))]
    lines += [("found by", f"{name}={row.attributes[name]}") for name in row.keys if name in row.attributes]
    lines += [("build", detail.build)] if detail.build else []
    lines += [("ended", moment(detail.ended_ms))] if detail.ended_ms else []
    lines += [("waits for", sentence) for sentence in instance.waiting_for]
    if detail.next_due_ms:
        lines.append(("next timer", f"{moment(detail.next_due_ms)}, {instance.next_timer}"))
    lines += [
        ("effect", f"{effect.step}: {effect.state}{', in doubt' if effect.in_doubt else ''}")
        for effect in detail.ledger
        if row.status != "completed"  # a completed run keeps its effects
    ]
    if len(instance.runs) > 1:
        lines.append(("other runs", ", ".join(other for other in instance.runs if other != row.run)))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        write(plain(f"{name.ljust(width)}  {text}"))


def _cells(row: TimelineRow) -> tuple[str, ...]:
    took = "" if row.took_ms is None else human(row.took_ms)
    return _after(row.at_ms), row.type, took, "undo" if row.compensation else "", row.text


def _fixed(cells: Sequence[str]) -> list[str]:
    """Return the cells in columns with widths fixed before the rows are known."""
    after, event, took, compensation, text = cells
    return [after.rjust(9), event.ljust(28), took.rjust(8), compensation.ljust(4), text]


def _after(at_ms: int) -> str:
    """Return the time since the start: to the millisecond in the first minute, later in words."""
    return f"+{at_ms / 1_000:.3f}s" if at_ms < 60_000 else f"+{human(at_ms // 1_000 * 1_000)}"
