"""`choreo run`: run one part of the project, or several, in a process of its own, as in production."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from choreo.cli.log import Level, log_to_stderr
from choreo.cli.output import Format, Output, document, flush, remark
from choreo.cli.project import roles
from choreo.cli.running import place_of_log, run_until_stopped
from choreo.wiring import BRIDGE, PROJECTOR, REST, TRACKER, App


def run(
    role: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVICE|tracker|projector|bridge|rest...", help="The roles of this process.", autocompletion=roles
        ),
    ],
    *,
    log_level: Level = "info",
    output: Output = Format.TABLE,
) -> None:
    """Run services, the tracker, the bridge or the REST view until SIGTERM or Ctrl-C, which drain.

    Any number of processes may run the same role: they share the partitions. With -o json it prints one document that
    names the running roles; the log stays on stderr.
    """
    log_to_stderr(log_level)

    def chosen(app: App) -> Sequence[str]:
        for each in role:
            if each not in (TRACKER, PROJECTOR, BRIDGE, REST):
                app.service(each)
        return list(dict.fromkeys(role))

    def begin(app: App, roles: Sequence[str]) -> None:
        if output is Format.JSON:
            document({"runs": list(roles), "flows": list(app.flows), "log": place_of_log(app)})
            flush()
        else:
            remark(f"running {', '.join(roles)} on {place_of_log(app)}")

    run_until_stopped(chosen, begin)
