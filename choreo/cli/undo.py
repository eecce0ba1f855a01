"""`choreo undo`: an operator's actions on a failed undo: request it again, or record that it was done by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.operator.actions import Action, Kind
from choreo.cli.deferred import group
from choreo.cli.operate import DryRun, Reason, operate
from choreo.cli.output import Format, Output
from choreo.cli.project import FlowOption, KeyArgument, RunOption

cli: typer.Typer = group("Retry or resolve an undo that failed.")

EntryArgument = Annotated[str, typer.Argument(help="The step's name, or the ledger entry's id.")]


@cli.command("retry")
def retry(
    key: KeyArgument,
    entry: EntryArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Request a failed undo once more: a new round."""
    operate(Action(Kind.RETRY, flow, key, run, entry, reason), output, dry_run=dry_run)


@cli.command("resolve")
def resolve(
    key: KeyArgument,
    entry: EntryArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Record that an effect was undone by hand, and how. Needs a --reason."""
    operate(Action(Kind.RESOLVE, flow, key, run, entry, reason), output, dry_run=dry_run)
