"""Run parts of a project until a signal: the first signal drains, a second one ends the process at once."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable, Sequence
from functools import partial

from choreo.cli.output import remark
from choreo.cli.project import in_app
from choreo.core.wording import counted
from choreo.wiring import REST, App, run

OPEN_FILES_MAX = 65_536
"""No process of choreo needs more, and a limit of a million slows code that walks all descriptors before an exec."""


def run_until_stopped(roles: Callable[[App], Sequence[str]], begin: Callable[[App, Sequence[str]], None]) -> None:
    """Run these roles; `begin` announces them once they can be asked. SIGTERM and SIGINT drain."""

    async def work(app: App) -> None:
        chosen = roles(app)
        _try_listeners(app, rest=REST in chosen)
        _make_room_for_files(app)
        stop = asyncio.Event()
        _listen(stop)
        await run(app, chosen, stop, partial(begin, app, chosen))

    in_app(work)


def place_of_log(app: App) -> str:
    """Return the place of the events, for people: the brokers or the file."""
    return app.backend.place


def _make_room_for_files(app: App) -> None:
    """Raise the soft limit of open files to the hard one; warn where even that may be too few for the backend."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    needed = app.backend.open_files
    if soft != resource.RLIM_INFINITY and soft < needed:
        flows = counted(len(app.flows), "flow")
        remark(f"this process may open {soft} files, and may need {needed} for {flows}: raise ulimit -n")


def _try_listeners(app: App, *, rest: bool) -> None:
    """Refuse an address that cannot be bound before anything runs; raises SettingsError, MissingExtraError."""
    if not (rest or app.settings.health_port):
        return
    from choreo.surfaces.rest.server import try_listeners  # noqa: PLC0415 - an optional extra

    try_listeners(app.settings, rest=rest)


def _listen(stop: asyncio.Event) -> None:
    """Let the first signal stop the process, and restore the default handlers for the second."""
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        stop.set()  # before any word: the reader of stderr may be gone
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        remark("stopping: waiting for running handlers; a second signal ends the process at once")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
