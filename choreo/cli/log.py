"""What a program writes while it runs, to stderr: a line a message, and of a library's complaints not each repetition.

A client whose broker is away says so ten times a second, for as long as that lasts.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from choreo.redaction import redact

QUIET_S = 30.0
"""How long a complaint is not repeated: short beside any outage that somebody looks into."""
_KEPT = 1_000
"""Texts remembered, of some hundred bytes; then it is begun anew, and each is said once more."""

Level = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="What is logged on stderr.")
]


def log_to_stderr(level: str) -> None:
    """One line a message, with the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    handler.setFormatter(WithoutSecrets("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper())


def without_secrets() -> None:
    """Free of secrets also what is written where no log was asked for: warnings, by the handler of last resort."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(WithoutSecrets())


class WithoutSecrets(logging.Formatter):
    """Writes a record, a library's and its traceback too, without the secrets of this process."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, to write."""
        return redact(super().format(record))


class Seldom(logging.Filter):
    """Lets through what choreo says, and a library's complaint once in `QUIET_S`, with how often it came since."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._seconds = seconds
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this is to be written. Threads may ask at once, and then both write it."""
        if record.levelno < logging.WARNING or record.name.split(".")[0] == "choreo":
            return True
        text, now_s = f"{record.name}: {record.getMessage()}", self._seconds()
        quiet_until_s, unsaid = self._said.get(text, (0.0, 0))
        if now_s < quiet_until_s:
            self._said[text] = quiet_until_s, unsaid + 1
            return False
        if len(self._said) >= _KEPT:
            self._said.clear()
        self._said[text] = now_s + QUIET_S, 0
        if unsaid:
            record.msg, record.args = f"{record.getMessage()} ({unsaid} times more since it was last written)", ()
        return True
