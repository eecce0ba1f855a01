"""A clock that moves only when a test advances it: a month in production takes no time in a test.

Knows only the order of moments; it never reads the machine's clock.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

# 2026-01-01T00:00:00Z: a plausible moment, the same in every run.
_EPOCH_MS = 1_767_225_600_000

# A sleeper that wakes may wake a few more tasks (a poll, a host, a commit) before it sleeps again.
_SETTLING_TURNS = 20


class VirtualClock:
    """Time as a value. `advance` moves it from one sleeper's moment to the next: each wakes at its own moment."""

    def __init__(self, now_ms: int = _EPOCH_MS) -> None:
        self._now_ms = now_ms
        self._set_back_ms = 0
        self._order = count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Return the present moment."""
        return self._now_ms

    def elapsed_ms(self) -> int:
        """Return the time that has passed, independent of the time of day."""
        return self._now_ms + self._set_back_ms

    async def sleep(self, duration_s: float) -> None:
        """Wait until the clock has been advanced this far."""
        if duration_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ms = self._now_ms + max(1, round(duration_s * 1_000))
        heapq.heappush(self._sleepers, (due_ms, next(self._order), woken))
        await woken

    def next_wake_ms(self) -> int | None:
        """Return when the first sleeper wakes; None if there is no sleeper."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, duration_s: float) -> None:
        """Let this much time pass; each sleeper that wakes runs at its own moment, until all are asleep again."""
        target_ms = self._now_ms + round(duration_s * 1_000)
        await _settle()
        while (due_ms := self.next_wake_ms()) is not None and due_ms <= target_ms:
            self._now_ms = max(self._now_ms, due_ms)
            heapq.heappop(self._sleepers)[2].set_result(None)
            await _settle()
        self._now_ms = target_ms
        await _settle()

    def set_back(self, duration_s: float) -> None:
        """Let the time of day jump back, or ahead by a negative duration; sleepers keep their durations."""
        jump_ms = round(duration_s * 1_000)
        self._now_ms -= jump_ms
        self._set_back_ms += jump_ms
        self._sleepers = [(due_ms - jump_ms, number, woken) for due_ms, number, woken in self._sleepers]


async def _settle() -> None:
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)
