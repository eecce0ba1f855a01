"""Time and waiting, as an argument: the real clock in production, a virtual one in tests and the simulator."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time in epoch milliseconds, the time that has passed, and a way to wait for it."""

    def now_ms(self) -> int:
        """Return the present moment."""
        ...

    def elapsed_ms(self) -> int:
        """Return the time since a fixed moment, for leases and waits. Nobody can set it; a boot resets it."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait this long."""
        ...
