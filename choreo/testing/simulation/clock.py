"""The clock of a simulated process: the loop's time as a time of day, which may be wrong by a skew."""

from __future__ import annotations

import asyncio

from choreo.testing.simulation.loop import START_S, SimulationLoop

EPOCH_MS: int = 1_767_225_600_000
"""2026-01-01T00:00:00Z: a plausible moment, the same in every run."""


class LoopClock:
    """`choreo.ports.clock.Clock` on a simulation's loop."""

    def __init__(self, loop: SimulationLoop) -> None:
        """Start at `EPOCH_MS`, without skew."""
        self._loop = loop
        self.skew_ms: int = 0
        """How far the time of day is ahead; waits are not affected."""

    def now_ms(self) -> int:
        """Return the time of day in epoch milliseconds."""
        return EPOCH_MS + self.elapsed_ms() + self.skew_ms

    def elapsed_ms(self) -> int:
        """Return the time since the loop began."""
        return round((self._loop.time() - START_S) * 1_000)

    async def sleep(self, duration_s: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(duration_s)
