"""Running parts of a project until a signal says to stop: the first drains, a second one ends the process at once."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable, Sequence

from choreo.cli.output import remark
from choreo.cli.project import in_app
from choreo.redaction import redact
from choreo.wiring import REST, App, run

OPEN_FILES_MAX = 65_536
"""No process of ours needs more, and a limit of a million costs whoever walks all descriptors before an exec."""
FILES_OF_A_PROCESS, FILES_OF_A_FLOW = 200, 50
"""At the most: connections of a flow's consumer and producer, 32 files of the tracker's copy, its locks and logs."""


def run_until_stopped(roles: Callable[[App], Sequence[str]], begin: Callable[[App, Sequence[str]], None]) -> None:
    """Run these roles; `begin` is called before they start, to say what runs. SIGTERM and SIGINT drain."""

    async def work(app: App) -> None:
        chosen = roles(app)
        _try_doors(app, rest=REST in chosen)
        _make_room_for_files(app)
        stop = asyncio.Event()
        _listen(stop)
        begin(app, chosen)
        await run(app, chosen, stop)

    in_app(work)


def place_of_log(app: App) -> str:
    """Where the events are, for people: the brokers or the file."""
    return redact(app.settings.kafka) or str(app.settings.database)


def _make_room_for_files(app: App) -> None:
    """Raise the soft limit of open files to the hard one; say so where even that may be too few on Kafka."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    needed = FILES_OF_A_PROCESS + FILES_OF_A_FLOW * len(app.flows)
    if app.kafka is not None and soft != resource.RLIM_INFINITY and soft < needed:
        remark(f"this process may open {soft} files, and may need {needed} for {len(app.flows)} flows: raise ulimit -n")


def _try_doors(app: App, *, rest: bool) -> None:
    """Refuse an address that cannot be taken before anything runs; raises SettingsError, MissingExtraError."""
    if not (rest or app.settings.health_port):
        return
    from choreo.surfaces.rest.server import try_doors  # noqa: PLC0415 - an optional extra

    try_doors(app.settings, rest=rest)


def _listen(stop: asyncio.Event) -> None:
    """Let the first signal stop, and give both back their usual meaning for the second."""
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        remark("stopping: handlers that run are waited for; once more to end at once")
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
