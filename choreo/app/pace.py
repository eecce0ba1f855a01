"""Limit how many lists run at once on the event loop that they share with starts and steps; pause while others wait.

At full speed they would hold the loop all the time. An order needs it a few dozen times from step to step, or twice in
a process that only serves the REST view, and would wait for lists at each of these times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from choreo.ports.clock import Clock

PAUSE_MIN_S = 0.005
"""About the loop time of a list beside its reading: parsing the request, and writing the answer."""


class Pace:
    """The slots of the lists of one process. A client that lists alone waits for nothing."""

    def __init__(self, clock: Clock, at_once: int = 1) -> None:
        """Start with all slots free. A pause lasts as long as the list, by `clock`; `at_once` lists run together."""
        self._clock = clock
        self._slot = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot; after it there is a pause, which delays no answer but that of the next one."""
        self._waiting += 1
        try:
            await self._slot.acquire()
        finally:
            self._waiting -= 1
        begun_ms = self._clock.elapsed_ms()
        try:
            yield
        finally:
            if self._waiting:
                took_s = (self._clock.elapsed_ms() - begun_ms) / 1_000
                asyncio.get_running_loop().call_later(max(PAUSE_MIN_S, took_s), self._slot.release)
            else:
                self._slot.release()
