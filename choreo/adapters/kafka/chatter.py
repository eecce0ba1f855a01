"""What the clients have to say, in Python's log: secrets masked, and what is said again and again said now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

QUIET_S = 30.0
"""A client without a broker complains about it several times a second."""

_log = logging.getLogger(__name__.removesuffix("chatter") + "client")


class Chatter:
    """The logger of one client: it calls `log` as `logging.Logger` has it, from whichever thread polls it."""

    def __init__(self, masked: Callable[[str], str]) -> None:
        """`masked` takes secrets out of a text."""
        self._masked = masked
        self._said: dict[str, float] = {}

    def log(self, level: int, text: str, *values: object) -> None:
        """Say it, unless the same kind of thing was said a moment ago; the first value is its kind, such as FAIL."""
        kind = str(values[0]) if values else text
        now = time.monotonic()
        if now < self._said.get(kind, now):
            return
        self._said[kind] = now + QUIET_S
        _log.log(level, "%s", self._masked(text % values))
