"""`choreo run`: one part of the project in a process of its own, as it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from choreo.cli.output import remark
from choreo.cli.project import roles
from choreo.cli.running import Level, log_to_stderr, run_until_stopped
from choreo.wiring import PROJECTOR, REST, TRACKER, App


def run(
    role: Annotated[
        str,
        typer.Argument(metavar="SERVICE|tracker|projector|rest", help="What this process runs.", autocompletion=roles),
    ],
    *,
    log_level: Level = "info",
) -> None:
    """Run one service, the tracker or the REST view until SIGTERM or Ctrl-C, which drain.

    Any number of processes may run the same one: they share the partitions.
    """
    log_to_stderr(log_level)

    def chosen(app: App) -> Sequence[str]:
        if role not in (TRACKER, PROJECTOR, REST):
            app.service(role)
        return [role]

    run_until_stopped(chosen, _say)


def _say(app: App, roles: Sequence[str]) -> None:
    remark(f"running {', '.join(roles)} on {app.settings.kafka or app.settings.database}")
