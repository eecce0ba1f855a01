"""Running parts of a project until a signal says to stop: the first drains, a second one ends the process at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import typer

from choreo.cli.output import remark
from choreo.cli.project import in_app
from choreo.wiring import REST, App, run

Level = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="What is logged on stderr.")
]


def run_until_stopped(roles: Callable[[App], Sequence[str]], begin: Callable[[App, Sequence[str]], None]) -> None:
    """Run these roles; `begin` is called before they start, to say what runs. SIGTERM and SIGINT drain."""

    async def work(app: App) -> None:
        chosen = roles(app)
        if REST in chosen:
            _try_address(app.settings.host, app.settings.port)
        stop = asyncio.Event()
        _listen(stop)
        begin(app, chosen)
        await run(app, chosen, stop)

    in_app(work)


def place_of_log(app: App) -> str:
    """Where the events are, for people: the brokers or the file."""
    return app.settings.kafka or str(app.settings.database)


def log_to_stderr(level: str) -> None:
    """One line a message, with the time."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _try_address(host: str, port: int) -> None:
    """Refuse an address that cannot be taken before anything runs; raises SettingsError, MissingExtraError."""
    from choreo.surfaces.rest.server import listen  # noqa: PLC0415 - an optional extra

    listen(host, port).close()


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
