"""Run a command of choreo and restart it each time that a file of the project changes.

Watches the current folder with watchfiles. The command runs in a process of its own, so that no old module stays in
memory; that process stops cleanly, as by `kill`, before the next one starts.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from choreo.cli.output import remark
from choreo.core.errors import MissingExtraError
from choreo.settings import Settings

try:
    from watchfiles import PythonFilter, watch
except ImportError as _missing:
    raise MissingExtraError.of(
        "watching files needs watchfiles, which is not installed", where="--reload", extra="web"
    ) from _missing

CODE: PythonFilter = PythonFilter(extra_extensions=(".toml", ".avsc", ".yaml"))
"""Code, settings, contracts and topics; not the log, nor a virtual environment."""
_SLACK_S = 5.0
"""Seconds beyond the time that handlers get: closing a file and a few sockets takes milliseconds, under load 1 s."""


def restart_on_change(settings: Settings, command: Sequence[str]) -> None:
    """Run `choreo COMMAND`, stop it and start it again when a file changes, until SIGINT or SIGTERM."""
    stop = threading.Event()
    with _signals(stop):
        process = _start(command)
        try:
            for changes in watch(".", watch_filter=CODE, stop_event=stop):
                remark(f"{_named([path for _, path in changes])} changed: starting again")
                _end(process, settings.stop_s + _SLACK_S)
                process = _start(command)
        finally:
            _end(process, settings.stop_s + _SLACK_S)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the command in its own process group: a terminal's Ctrl-C reaches it once, through this process."""
    return subprocess.Popen([sys.executable, "-m", "choreo", *command], process_group=0)  # noqa: S603 - ourselves


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Stop the process cleanly; kill it after `timeout_s`."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        remark(f"it did not stop within {timeout_s:g} s and is killed")
        process.kill()
        process.wait()


def _named(paths: Sequence[str]) -> str:
    """Return the first changed file and the number of the others."""
    first = Path(min(paths))
    here = Path.cwd()
    shown = first.relative_to(here) if first.is_relative_to(here) else first
    return f"{shown}" if len(paths) == 1 else f"{shown} and {len(paths) - 1} more"


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set the event."""

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, stopped) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
