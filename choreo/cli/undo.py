"""`choreo undo`: an operator's actions on a failed undo: request it again, or record that it was done by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.cli.deferred import group
from choreo.cli.operate import Reason, operate
from choreo.cli.output import Format, Output
from choreo.cli.project import FlowOption, KeyArgument, RunOption, os_user

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
    output: Output = Format.TABLE,
) -> None:
    """Request a failed undo once more: a new round."""
    operate(
        flow,
        key,
        lambda app, name: app.operator.retry_compensation(name, key, entry, run=run, reason=reason, by=os_user()),
        output,
    )


@cli.command("resolve")
def resolve(
    key: KeyArgument,
    entry: EntryArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Record that an effect was undone by hand, and how. Needs a --reason."""
    operate(
        flow,
        key,
        lambda app, name: app.operator.resolve_compensation(name, key, entry, run=run, reason=reason, by=os_user()),
        output,
    )
