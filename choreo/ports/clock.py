"""Time and waiting, as an argument: the real clock in production, a virtual one in tests and the simulator."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time in epoch milliseconds and a way to wait for it."""

    def now_ms(self) -> int:
        """The present moment."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        ...
