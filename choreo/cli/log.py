"""Log to stderr: one line a message, as text or JSON; a complaint of a library is not repeated each time.

A client that has lost its broker logs so ten times a second, for as long as the outage lasts.
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
"""How long a complaint is not repeated: short compared with any outage that a person looks into."""
_KEPT = 1_000
"""Texts remembered, some hundred bytes each; a full memory is cleared, and each text is logged once more."""

Level = Annotated[
    Literal["debug", "info", "warning", "error"],
    typer.Option("--log-level", help="Lowest level that is logged on stderr."),
]


def log_to_stderr(level: str) -> None:
    """Log to stderr, one line a message, with the time, in the form that the settings name. Raises SettingsError."""
    # `choreo --help` needs this module, and neither the settings nor the ids of runs.
    from choreo import settings  # noqa: PLC0415
    from choreo.cli.log_ids import Ids  # noqa: PLC0415

    chosen = settings.load()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    handler.addFilter(Ids(keys=chosen.log_keys))
    handler.setFormatter(_formatter(chosen.log))
    logging.basicConfig(handlers=[handler], level=level.upper())


def _formatter(form: str) -> logging.Formatter:
    if form == "json":
        from choreo.cli.log_json import JsonLines  # noqa: PLC0415 - a library that text does not need

        return JsonLines()
    return WithoutSecrets("%(asctime)s %(levelname)s %(name)s: %(message)s")


def without_secrets() -> None:
    """Remove secrets also where no log was configured: from warnings, which the handler of last resort writes."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(WithoutSecrets())


class WithoutSecrets(logging.Formatter):
    """Formats a record of choreo or of a library, with its traceback, without the secrets of this process."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, to write."""
        return redact(super().format(record))


class Seldom(logging.Filter):
    """Passes choreo's records, and a library's complaint once in `QUIET_S` with the number of repetitions."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        """Start with an empty memory."""
        super().__init__()
        self._seconds = seconds
        self._logged: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record. Two threads that ask at once may both log it."""
        if record.levelno < logging.WARNING or record.name.split(".")[0] == "choreo":
            return True
        text, now_s = f"{record.name}: {record.getMessage()}", self._seconds()
        quiet_until_s, repeats = self._logged.get(text, (0.0, 0))
        if now_s < quiet_until_s:
            self._logged[text] = quiet_until_s, repeats + 1
            return False
        if len(self._logged) >= _KEPT:
            self._logged.clear()
        self._logged[text] = now_s + QUIET_S, 0
        if repeats:
            record.msg, record.args = f"{record.getMessage()} ({repeats} times more since it was last written)", ()
        return True
