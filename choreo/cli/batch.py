"""`choreo batch`: one action on many instances: plan it, run it at a rate, stop it, go on with it.

This process runs the batch, unless a process with the REST view has taken it; each goes on after the other's crash.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from choreo.app.operator.actions import Kind
from choreo.app.operator.batch_plans import FIRST, Draft, Planner, Wish
from choreo.app.operator.batches import Batch
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.list import filter_of
from choreo.cli.operate import DryRun, Reason
from choreo.cli.output import Format, Output, document, plain, remark, table, write
from choreo.cli.project import FlowArgument, FlowOption, chosen, in_app, os_user
from choreo.core.batch import Progress, State
from choreo.core.errors import SettingsError
from choreo.core.wording import counted
from choreo.surfaces.batch_format import batch_of, draft_of
from choreo.wiring import App

cli: typer.Typer = group("Do one action on many instances, at a rate.")

_RATE = re.compile(r"(?P<number>\d{1,5}(?:\.\d{1,3})?)(?:/(?P<unit>s|m|min))?")
_LOOK_S = 0.5
"""Time between two looks at a batch that another process works on."""

BatchArgument = Annotated[str, typer.Argument(help="The batch's id, as `choreo batch list` shows it.")]
Rate = Annotated[str, typer.Option("--rate", help="Items a second at most, such as 200/s; or a minute: 600/m.")]
_ACTIONS = ", ".join(Kind)


@cli.command("run")
def run(
    action: Annotated[str, typer.Argument(help=f"One of {_ACTIONS}.", autocompletion=lambda: list(Kind))],
    flow: FlowArgument = "",
    *,
    status: Annotated[str, typer.Option(help="Only instances of this status.")] = "",
    key: Annotated[str, typer.Option(help="Only runs of this key.")] = "",
    attr: Annotated[list[str] | None, typer.Option(help="As in `choreo list`; may be repeated.")] = None,
    since: Annotated[str, typer.Option(help="Started at this time or later (ISO 8601).")] = "",
    before: Annotated[str, typer.Option(help="Started before this time (ISO 8601).")] = "",
    entry: Annotated[str, typer.Option(help="Of undo-retry and undo-resolve: the step.")] = "",
    rate: Rate = "100/s",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Do an action on every instance that the filter shows; those that it does not fit are left out.

    Ctrl-C stops the batch; `choreo batch resume` goes on with it.
    """
    if action not in tuple(Kind):
        raise SettingsError(f"{action!r:.60} is no action", where="choreo batch run", remedy=f"Use one of {_ACTIONS}.")
    wanted = filter_of(flow, status, key, attr or (), since, before)

    async def plan(app: App) -> Draft:
        wish = Wish(action, chosen(app.flows, flow), os_user(), rate_of(rate), secrets.token_hex(8), reason, entry)
        return await planner_of(app).of_runs(wish, wanted, dry=dry_run)

    planned(plan, output, dry_run=dry_run)


@cli.command("list")
def list_(flow: FlowOption = "", *, output: Output = Format.TABLE) -> None:
    """List the newest batches, with their progress."""
    batches = in_app(lambda app: app.batches.list(flow))
    if output is Format.JSON:
        document({"items": [batch_of(each).model_dump() for each in batches]})
        return
    rows = [
        (
            each.plan.id,
            each.plan.flow,
            each.plan.action,
            each.plan.about,
            each.progress.state,
            f"{each.progress.at:,} of {len(each.plan.items):,}",
            each.progress.refused,
        )
        for each in batches
    ]
    table(("id", "flow", "action", "about", "state", "settled", "refused"), rows)


@cli.command("show")
def show(batch_id: BatchArgument, *, output: Output = Format.TABLE) -> None:
    """Show a batch: its progress, and the items that were refused."""
    _show(in_app(lambda app: app.batches.get(batch_id)), output)


@cli.command("stop")
def stop(batch_id: BatchArgument, *, output: Output = Format.TABLE) -> None:
    """Let a batch publish nothing more."""
    _show(in_app(lambda app: app.batches.stop(batch_id)), output)


@cli.command("resume")
def resume(batch_id: BatchArgument, *, output: Output = Format.TABLE) -> None:
    """Go on with a batch that was stopped, or left by a process that has died."""

    async def work(app: App) -> Batch:
        if (await app.batches.get(batch_id)).progress.state is State.STOPPED:
            await app.batches.resume(batch_id)
        return await follow(app, batch_id)

    _end(in_app(work), output)


def planned(plan: Callable[[App], Awaitable[Draft]], output: Format, *, dry_run: bool) -> None:
    """Show the plan, or begin the batch and work on it until it is done or stopped."""

    async def work(app: App) -> Batch:
        draft = await plan(app)
        await app.batches.begin(draft.plan)
        left_out = f", {draft.refused:,} left out" if draft.refused else ""
        remark(f"batch {draft.plan.id}: {counted(len(draft.plan.items), 'item')}{left_out}")
        return await follow(app, draft.plan.id)

    if dry_run:
        show_draft(in_app(plan), output)
    else:
        _end(in_app(work), output)


def planner_of(app: App) -> Planner:
    """Return the planner of a project's batches."""
    return Planner(app.queries, app.operator.redriver, app.clock)


def rate_of(text: str) -> float:
    """Return the items a second in a text such as 200/s. Raises SettingsError."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"{text!r:.60} is no rate", where="--rate", remedy="Write it such as 200/s or 600/m.")
    return float(found["number"]) / (1 if found["unit"] in (None, "s") else 60)


async def follow(app: App, batch_id: str) -> Batch:
    """Work on the batch, or watch another process do it, until it is done or stopped; Ctrl-C stops it."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stopping.set)
    try:
        while True:
            progress = await app.batches.run(batch_id, stopping, _told)
            if progress.state is not State.RUNNING:
                return await app.batches.get(batch_id)
            if stopping.is_set():
                return await app.batches.stop(batch_id)
            await app.clock.sleep(_LOOK_S)
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _told(progress: Progress) -> None:
    remark(f"{progress.done:,} done, {progress.refused:,} refused")


def show_draft(draft: Draft, output: Format) -> None:
    """Print a plan that was not begun."""
    if output is Format.JSON:
        document(draft_of(draft).model_dump())
        return
    plan = draft.plan
    seconds = len(plan.items) / plan.rate
    write(plain(f"{plan.action} of {plan.about} in flow {plan.flow}: {counted(len(plan.items), 'item')}"))
    if plan.items:
        table(("id", "key"), [(item.id, item.key) for item in draft.first])
        write(
            f"{f'the first {FIRST} of them; ' * (len(plan.items) > FIRST)}at least {seconds:,.1f} s at {plan.rate:g}/s"
        )
    for each in draft.reasons[:FIRST]:
        write(plain(f"left out {each.key} ({each.id}): {each.why}"))
    write(f"{draft.refused:,} left out; nothing was written")


def _end(batch: Batch, output: Format) -> None:
    _show(batch, output)
    if batch.progress.refused or not batch.progress.is_over:
        raise typer.Exit(PROBLEM)


def _show(batch: Batch, output: Format) -> None:
    if output is Format.JSON:
        document(batch_of(batch).model_dump())
        return
    plan, progress = batch.plan, batch.progress
    write(plain(f"batch {plan.id}: {plan.action} of {plan.about} in flow {plan.flow}, by {plan.by}"))
    write(f"{progress.state}: {progress.done:,} of {len(plan.items):,} done, {progress.refused:,} refused")
    for each in progress.reasons[:FIRST]:
        write(plain(f"refused {each.key} ({each.id}): {each.why}"))
    if progress.state is State.STOPPED:
        write(f"go on: choreo batch resume {plan.id}")
