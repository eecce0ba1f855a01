"""Notice the writes of other processes to the file, and wake the readers of this process that wait for them.

`PRAGMA data_version` moves when another connection has committed. Knows no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.adapters.notifier import Notifier, Types
from choreo.adapters.sqlite.database import Database
from choreo.core.errors import StorageError

# A look costs 3 µs and the timer 20 µs: at an interval of 1 ms that is 2 % of a core while a reader waits, at 5 ms less
# than half of one percent. 5 ms is also the longest delay of an event between an idle process and another.
_SHORTEST_S, _LONGEST_S, _GROWTH = 0.001, 0.005, 1.25


class ChangeNotifier:
    """Looks on request, and on a timer while a reader waits; notifies every reader when another process has written."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier
        self._version = -1
        self._armed = False
        self._interval_s = _SHORTEST_S
        self.forget: list[Callable[[], None]] = []
        """Callbacks for a write of another process: the cached values of the file may be wrong."""

    def look(self) -> None:
        """Notice whether another process has written since the last look."""
        ((version,),) = self._database.query("PRAGMA data_version")
        if version == self._version:
            return
        self._version = version
        for forget in self.forget:
            forget()
        self._notifier.notify_all()

    def listen(self, topic: str, types: Types) -> asyncio.Future[None]:
        """Return a future that is done when the topic may have new records of these types, from any process."""
        self._interval_s = _SHORTEST_S
        if not self._armed:
            self._arm(asyncio.get_running_loop())
        return self._notifier.listen(topic, types)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = True
        loop.call_later(self._interval_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        if not self._notifier.listening:
            return
        try:
            self.look()
        except StorageError:
            self._notifier.notify_all()  # the woken reader looks again, meets the same error, and can report it
        self._interval_s = min(self._interval_s * _GROWTH, _LONGEST_S)
        self._arm(loop)
