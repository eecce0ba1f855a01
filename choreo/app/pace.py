"""Lists take turns where they share a loop with the work, and leave it a pause while others of them wait.

One after the other at full speed they would hold the loop all the time, and an order, which needs it a few dozen times
from step to step, would wait for a list at each of these times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from choreo.ports.clock import Clock

PAUSE_MIN_S = 0.005
"""About what a list costs the loop beside its reading: taking the request apart, and writing the answer."""


class Pace:
    """The turns of one process. A client that lists alone waits for nothing."""

    def __init__(self, clock: Clock) -> None:
        """`clock` measures how long a list takes; a pause is as long."""
        self._clock = clock
        self._slot = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the only turn; after it there is a pause, which delays no answer but the next turn."""
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
