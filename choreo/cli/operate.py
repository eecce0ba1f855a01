"""`choreo pause`, `resume`, `cancel` and `terminate`: an operator's actions on one run, as facts in the log.

With --dry-run each prints its consequences, and writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from choreo.app.operator.actions import Action, Kind
from choreo.app.publish.publisher import Receipt
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowOption, KeyArgument, RunOption, caught_up, chosen, in_app, os_user
from choreo.surfaces.json_format import receipt_of
from choreo.surfaces.preview_format import PreviewAnswer
from choreo.wiring import App

if TYPE_CHECKING:
    from choreo.app.operator.preview import Preview

Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept in the log.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the consequences; write nothing.")]


def pause(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Start no further step of the run, and stop its deadlines, until it is resumed."""
    operate(Action(Kind.PAUSE, flow, key, run, reason=reason), output, dry_run=dry_run)


def resume(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Let a paused run go on; its deadlines move by the length of the pause."""
    operate(Action(Kind.RESUME, flow, key, run, reason=reason), output, dry_run=dry_run)


def cancel(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Start compensation: everything the run has done is undone, newest first."""
    operate(Action(Kind.CANCEL, flow, key, run, reason=reason), output, dry_run=dry_run)


def terminate(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """End the run as it is: no further step starts and nothing is undone. Needs a --reason."""
    operate(Action(Kind.TERMINATE, flow, key, run, reason=reason), output, dry_run=dry_run)


def operate(action: Action, output: Format, *, dry_run: bool) -> None:
    """Apply an action to the chosen flow, and print the fact that was written; or preview it."""

    async def chosen_flow(app: App) -> Action:
        name = chosen(app.flows, action.flow)
        await caught_up(app, name, action.key)
        return Action(action.kind, name, action.key, action.run, action.entry, action.reason)

    async def act(app: App) -> Receipt:
        return await app.operator.act(await chosen_flow(app), by=os_user())

    async def foresee(app: App) -> Preview:
        return await app.operator.preview(await chosen_flow(app), by=os_user())

    if dry_run:
        show_preview(in_app(foresee), output)
        return
    receipt = in_app(act)
    if output is Format.JSON:
        document(receipt_of(receipt).model_dump())
    else:
        write(plain(f"{receipt.type} written for {receipt.flow} {receipt.key}; see `choreo show {receipt.key}`"))


def show_preview(preview: Preview, output: Format) -> None:
    """Print the consequences of an action that was not done."""
    if output is Format.JSON:
        document(PreviewAnswer.model_validate(preview).model_dump())
        return
    write(plain(f"{preview.fact} for {preview.flow} {preview.key} would be written after {preview.position}:"))
    for sentence in preview.sentences:
        write(plain(f"  {sentence}"))
    if preview.changed:
        write("")
        table(("field", "before", "after"), [(each.field, each.before, each.after) for each in preview.changed])
    write("nothing was written")
