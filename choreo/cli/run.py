"""`choreo run`: one part of the project in a process of its own, as it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from choreo.cli.log import Level, log_to_stderr
from choreo.cli.output import Format, Output, document, flush, remark
from choreo.cli.project import roles
from choreo.cli.running import place_of_log, run_until_stopped
from choreo.wiring import PROJECTOR, REST, TRACKER, App


def run(
    role: Annotated[
        str,
        typer.Argument(metavar="SERVICE|tracker|projector|rest", help="What this process runs.", autocompletion=roles),
    ],
    *,
    log_level: Level = "info",
    output: Output = Format.TABLE,
) -> None:
    """Run one service, the tracker or the REST view until SIGTERM or Ctrl-C, which drain.

    Any number of processes may run the same one: they share the partitions. With -o json prints one document that says
    what runs; the log stays on stderr.
    """
    log_to_stderr(log_level)

    def chosen(app: App) -> Sequence[str]:
        if role not in (TRACKER, PROJECTOR, REST):
            app.service(role)
        return [role]

    def begin(app: App, roles: Sequence[str]) -> None:
        if output is Format.JSON:
            document({"runs": list(roles), "flows": list(app.flows), "log": place_of_log(app)})
            flush()
        else:
            remark(f"running {', '.join(roles)} on {place_of_log(app)}")

    run_until_stopped(chosen, begin)
