"""The machine's clocks. The only place below the hosts that reads the time of day.

Anybody may set the time of day back or ahead. Durations (leases, waits) are measured by the time since the machine's
start, which nobody sets; `SteadyClock` keeps the time of day from leaping, for a log of one machine.
"""

from __future__ import annotations

import asyncio
import time

from choreo.ports.clock import Clock

# Linux: it also counts while the machine sleeps, the same for every process.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", None)

LEAP_MS = 2_000
"""A reading this much later than the elapsed time is a leap: a busy machine delays both readings alike."""
TRUST_MS = 60_000
"""A leap ahead that lasts this long was a correction; a shorter one must not make timers late."""
CATCH_UP = 9, 10
"""The rate of a clock that is ahead of the time of day: a timer is a tenth late, an hour is made good in ten."""


class SystemClock:
    """Wall time in epoch milliseconds, and real waiting."""

    def now_ms(self) -> int:
        """Return the present time."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Return the time since the machine's start, comparable between its processes."""
        now_ns = time.clock_gettime_ns(_SINCE_BOOT) if _SINCE_BOOT is not None else time.monotonic_ns()
        return now_ns // 1_000_000

    async def sleep(self, duration_s: float) -> None:
        """Wait; other tasks run meanwhile."""
        await asyncio.sleep(duration_s)


class SteadyClock:
    """A clock that never goes back, leaps ahead only after `TRUST_MS`, and never falls behind observed timestamps."""

    def __init__(self, clock: Clock) -> None:
        """Read `clock` at each call."""
        self._clock = clock
        self._anchor_ms, self._anchored_ms = clock.now_ms(), clock.elapsed_ms()
        """An accepted time of day, and the time since the start at that moment."""
        self._leapt_ms: int | None = None
        """Time since the start at which the time of day was first ahead of the elapsed time; None: it is not."""

    def now_ms(self) -> int:
        """Return the time of day, or the time that follows from the elapsed time."""
        wall_ms, elapsed_ms = self._clock.now_ms(), self._clock.elapsed_ms()
        passed_ms = max(0, elapsed_ms - self._anchored_ms)
        if wall_ms - self._anchor_ms - passed_ms > LEAP_MS:
            if self._leapt_ms is None:
                self._leapt_ms = elapsed_ms
            if elapsed_ms - self._leapt_ms < TRUST_MS:
                return self._anchor_ms + passed_ms
        self._leapt_ms = None
        slow_ms = self._anchor_ms + passed_ms * CATCH_UP[0] // CATCH_UP[1]
        if wall_ms < slow_ms:
            return slow_ms
        self._anchor_ms, self._anchored_ms = wall_ms, elapsed_ms
        return wall_ms

    def elapsed_ms(self) -> int:
        """Return the time since the machine's start."""
        return self._clock.elapsed_ms()

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        await self._clock.sleep(duration_s)

    def observe(self, stamp_ms: int) -> None:
        """Continue from this time if it is later: the log has reached it, and its time must not stand still."""
        if stamp_ms > self.now_ms():
            self._anchor_ms, self._anchored_ms = stamp_ms, self._clock.elapsed_ms()
