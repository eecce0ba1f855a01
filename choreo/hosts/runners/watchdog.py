"""Watchdog of runners: times attempts out, and finds the async handler that blocks the loop of all others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

from choreo.hosts.runners.port import Attempt

_log = logging.getLogger(__name__)

BLOCKED_S = 0.2
"""A handler that holds the loop this long delays all others; a pause of the garbage collector is a tenth of it."""
WATCH_S = 0.05
"""The interval between looks: a timeout is noticed this much late at most."""


class Watchdog:
    """A thread that looks at regular intervals while something runs."""

    def __init__(self, name: str, look: Callable[[float, bool], None]) -> None:
        """Call `look(now_s, fair)` in the thread; it is not `fair` after the whole machine stood still."""
        self._name = name
        self._look = look
        self._active = Event()
        self._closed = False
        self._thread: Thread | None = None

    def watch(self) -> None:
        """Look from now on."""
        self._active.set()
        if self._thread is None:
            self._thread = Thread(target=self._run, name=f"choreo-{self._name}-watch", daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Look no more until the next `watch`."""
        self._active.clear()

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._active.set()

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._closed:
            self._active.wait()
            time.sleep(WATCH_S)
            now_s = time.monotonic()
            # After the machine stood still every handler looks blocked, and none is.
            fair = now_s - looked_s < BLOCKED_S
            looked_s = now_s
            if not self._closed:
                self._look(now_s, fair)


def blocking_attempt(current: tuple[Attempt, float] | None, now_s: float) -> Attempt | None:
    """Return the attempt that has held its loop for too long; None if none has."""
    if current is None or now_s - current[1] < BLOCKED_S:
        return None
    attempt = current[0]
    _log.warning(
        "step %s blocks the loop of all async handlers; its handler runs in threads of its own from now on. "
        "Make it a plain def, or let it await its calls",
        attempt.spec.step,
    )
    return attempt
