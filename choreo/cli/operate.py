"""`choreo pause`, `resume`, `cancel` and `terminate`: an operator's actions on one run, as facts in the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from choreo.app.publish.publisher import Receipt
from choreo.cli.output import Format, Output, document, plain, write
from choreo.cli.project import FlowOption, KeyArgument, RunOption, caught_up, chosen, in_app, os_user
from choreo.surfaces.json_format import receipt_of
from choreo.wiring import App

Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept in the log.")]


def pause(
    key: KeyArgument, *, flow: FlowOption = "", run: RunOption = "", reason: Reason = "", output: Output = Format.TABLE
) -> None:
    """Start no further step of the run, and stop its deadlines, until it is resumed."""
    operate(flow, key, lambda app, name: app.operator.pause(name, key, run=run, reason=reason, by=os_user()), output)


def resume(
    key: KeyArgument, *, flow: FlowOption = "", run: RunOption = "", reason: Reason = "", output: Output = Format.TABLE
) -> None:
    """Let a paused run go on; its deadlines move by the length of the pause."""
    operate(flow, key, lambda app, name: app.operator.resume(name, key, run=run, reason=reason, by=os_user()), output)


def cancel(
    key: KeyArgument, *, flow: FlowOption = "", run: RunOption = "", reason: Reason = "", output: Output = Format.TABLE
) -> None:
    """Start compensation: everything the run has done is undone, newest first."""
    operate(flow, key, lambda app, name: app.operator.cancel(name, key, run=run, reason=reason, by=os_user()), output)


def terminate(
    key: KeyArgument, *, flow: FlowOption = "", run: RunOption = "", reason: Reason = "", output: Output = Format.TABLE
) -> None:
    """End the run as it is: no further step starts and nothing is undone. Needs a --reason."""
    operate(
        flow, key, lambda app, name: app.operator.terminate(name, key, run=run, reason=reason, by=os_user()), output
    )


def operate(flow: str, key: str, act: Callable[[App, str], Awaitable[Receipt]], output: Format) -> None:
    """Apply an action to the chosen flow, and print the fact that was written."""

    async def work(app: App) -> Receipt:
        name = chosen(app.flows, flow)
        await caught_up(app, name, key)
        return await act(app, name)

    receipt = in_app(work)
    if output is Format.JSON:
        document(receipt_of(receipt).model_dump())
    else:
        write(plain(f"{receipt.type} written for {receipt.flow} {receipt.key}; see `choreo show {receipt.key}`"))
