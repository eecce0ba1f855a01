"""What a partition's owner keeps of all its keys: when each is due next, and which have decisions nobody has read.

In memory, built once from the stored states and then kept with every write: nothing scans all instances again.
"""

from __future__ import annotations

import heapq

_SPARE = 1_024


class KeyIndex:
    """Due times and unread decisions of the keys of one partition."""

    def __init__(self) -> None:
        self.unread: set[str] = set()
        """Keys whose state holds decisions that were not read back from the log."""
        self._due_ms: dict[str, int] = {}
        self._alarms: list[tuple[int, str]] = []
        """A heap; an alarm earlier than its key's due time is of a state that has passed."""

    def put(self, key: str, due_ms: int, *, unread: bool) -> None:
        """The key's state was written: `due_ms` is its next timer, 0 for none."""
        if unread:
            self.unread.add(key)
        else:
            self.unread.discard(key)
        if not due_ms:
            self._due_ms.pop(key, None)
            return
        self._due_ms[key] = due_ms
        self.wake(key, due_ms)

    def wake(self, key: str, at_ms: int) -> None:
        """Let `take` bring the key again at this moment."""
        heapq.heappush(self._alarms, (at_ms, key))
        if len(self._alarms) > 2 * len(self._due_ms) + _SPARE:
            self.rewind()

    def rewind(self) -> None:
        """Let `take` bring every key at its due time again, whether it was taken before or not."""
        self._alarms = [(due_ms, key) for key, due_ms in self._due_ms.items()]
        heapq.heapify(self._alarms)

    def take(self, now_ms: int, limit: int) -> list[str]:
        """At most `limit` keys that are due, earliest first; each is taken once, until it is written or woken."""
        taken: dict[str, None] = {}
        while self._alarms and self._alarms[0][0] <= now_ms and len(taken) < limit:
            at_ms, key = heapq.heappop(self._alarms)
            if key in self._due_ms and at_ms >= self._due_ms[key]:
                taken[key] = None
        return list(taken)

    @property
    def next_ms(self) -> int:
        """Not after the moment at which `take` brings something; 0: never."""
        return self._alarms[0][0] if self._alarms else 0
