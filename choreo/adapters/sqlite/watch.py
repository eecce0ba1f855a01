"""Noticing what other processes write to the file, and waking those of this process who wait for it.

`PRAGMA data_version` moves when another connection has committed. Knows no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.adapters.bell import Bell, Types
from choreo.adapters.sqlite.database import Database
from choreo.core.errors import StorageError

# A look costs 3 µs and the timer 20: at 1 ms that is 2 % of a core while somebody waits, at 5 ms less than half of one.
# 5 ms is also the most that an event waits on its way from an idle process to another.
_SHORTEST_S, _LONGEST_S, _GROWTH = 0.001, 0.005, 1.25


class Watch:
    """Looks when asked, and by itself while anybody listens; rings for everybody when it has seen something."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell
        self._version = -1
        self._armed = False
        self._interval_s = _SHORTEST_S
        self.forget: list[Callable[[], None]] = []
        """Called when another process has written: what was remembered of the file may be wrong."""

    def look(self) -> None:
        """Notice whether another process has written since the last look."""
        ((version,),) = self._database.query("PRAGMA data_version")
        if version == self._version:
            return
        self._version = version
        for forget in self.forget:
            forget()
        self._bell.ring_all()

    def listen(self, topic: str, types: Types) -> asyncio.Future[None]:
        """A future that is done when records of these types may be new in the topic, whoever wrote them."""
        self._interval_s = _SHORTEST_S
        if not self._armed:
            self._arm(asyncio.get_running_loop())
        return self._bell.listen(topic, types)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = True
        loop.call_later(self._interval_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        if not self._bell.listening:
            return
        try:
            self.look()
        except StorageError:
            self._bell.ring_all()  # whoever wakes looks again, and meets the error where it can be told
        self._interval_s = min(self._interval_s * _GROWTH, _LONGEST_S)
        self._arm(loop)
