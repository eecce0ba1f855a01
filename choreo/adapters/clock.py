"""The machine's own clock. The only place below the hosts where the time of day is read."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Wall time in epoch milliseconds, and real waiting."""

    def now_ms(self) -> int:
        """The present moment."""
        return time.time_ns() // 1_000_000

    async def sleep(self, duration_s: float) -> None:
        """Wait; other tasks run meanwhile."""
        await asyncio.sleep(duration_s)
