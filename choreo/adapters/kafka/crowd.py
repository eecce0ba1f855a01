"""Under load a poll lets records come together: a batch costs host, Redis and broker some 3 ms whatever is in it.

Knows no broker; what a member polls, and when, is the member's.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

CROWD = 16
"""From so many records a poll on, the next one waits for more."""
GATHER_S = 0.05
"""Since the poll before. Below 320 records a second (a crowd in this time) nothing ever waits; above it the batches
grow, and an order takes at most that much longer a step."""


class Crowd:
    """Whether one member's records come in crowds."""

    def __init__(self) -> None:
        self._polled_s = 0.0
        self._is_one = False

    def saw(self, records: int, limit: int) -> None:
        """A poll brought so many records; one that brought as many as it might has a backlog to work."""
        self._is_one, self._polled_s = CROWD <= records < limit, time.monotonic()

    async def gather(self, news: asyncio.Event) -> bool:
        """Let more of a crowd come, until there is news of something else; False if there is none."""
        if not self._is_one:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._polled_s + GATHER_S - time.monotonic())):
                await news.wait()
        return True
