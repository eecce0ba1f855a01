"""`choreo stalled` and `choreo timers`: runs that stand longer than usual, and runs by their next due time."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.query.stalled import DuePage, DueRun, Stalled
from choreo.app.query.status_text import duration, moment
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen, chosen_or_all, in_app
from choreo.surfaces.stalled_format import DuePageAnswer, StalledAnswer
from choreo.wiring import App


def stalled(
    flow: FlowArgument = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs at most, of each flow.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """List runs that stand longer in a step than 99 of 100 runs do, events without a run, and overdue timers.

    Without FLOW those of every flow. No deadline has to be declared: each step is measured by its own past.
    """

    async def ask(app: App) -> list[Stalled]:
        return [await app.queries.stalled(name, limit) for name in chosen_or_all(app.flows, flow)]

    found = in_app(ask)
    if output is Format.JSON:
        document({"items": [StalledAnswer.model_validate(each).model_dump() for each in found]})
        return
    runs = [run for each in found for run in each.runs]
    rows = [
        (
            run.flow,
            run.key,
            run.place,
            duration(run.age_ms),
            duration(run.p99_ms) if run.count else "not measured",
            run.status,
        )
        for run in runs
    ]
    if rows:
        table(("flow", "key", "stands in", "for", "99 of 100 within", "status"), rows)
    orphans = [orphan for each in found for orphan in each.orphans]
    if orphans:
        table(
            ("flow", "event without a run", "key", "position", "source"),
            [(each.flow, each.type, each.key, each.position, each.source) for each in orphans],
        )
    overdue = [each for one in found for each in one.overdue]
    if overdue:
        table(
            ("flow", "key", "overdue", "for"),
            [(each.flow, each.key, each.about, duration(each.late_ms)) for each in overdue],
        )
    if not rows and not orphans and not overdue:
        write("Nothing stands still.")


def timers(
    flow: FlowArgument = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    cursor: Annotated[str, typer.Option(help="The cursor of the page before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List runs by their next due time, the earliest first: deadlines, time-outs, reminders, retries."""

    async def ask(app: App) -> DuePage:
        return await app.queries.timers(chosen(app.flows, flow), limit, cursor)

    page = in_app(ask)
    if output is Format.JSON:
        document(DuePageAnswer.model_validate(page).model_dump())
        return
    table(("flow", "key", "due", "timer", "status"), [_cells(row) for row in page.items])
    if page.cursor:
        write(plain(f"more: --cursor {page.cursor}"))


def _cells(row: DueRun) -> tuple[str, ...]:
    late = f" ({duration(row.late_ms)} ago)" if row.late_ms else ""
    return (row.flow, row.key, f"{moment(row.due_ms)}{late}", row.about, row.status)
