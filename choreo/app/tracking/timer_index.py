"""Index of one partition's keys: when each is due next, and which have unacknowledged decisions.

Kept in memory. It is built once from the stored rows and updated with every write, so that no timer needs a scan.
"""

from __future__ import annotations

import heapq

_SPARE = 1_024
"""Stale heap entries kept before the heap is built anew: few enough to be cheap, enough to make that rare."""


class TimerIndex:
    """Due times and unacknowledged decisions of the keys of one partition."""

    def __init__(self) -> None:
        self.unacknowledged: set[str] = set()
        """Keys with unacknowledged decisions in their states."""
        self._due_ms: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """(moment, key). An entry before its key's due time is stale: the state has changed since."""

    def put(self, key: str, due_ms: int, *, unacknowledged: bool) -> None:
        """Take the next due time of a key whose state was written; 0: it has no timer."""
        if unacknowledged:
            self.unacknowledged.add(key)
        else:
            self.unacknowledged.discard(key)
        if not due_ms:
            self._due_ms.pop(key, None)
            return
        self._due_ms[key] = due_ms
        self.wake(key, due_ms)

    def wake(self, key: str, at_ms: int) -> None:
        """Let `take` return the key again at this moment."""
        heapq.heappush(self._heap, (at_ms, key))
        if len(self._heap) > 2 * len(self._due_ms) + _SPARE:
            self.rewind()

    def rewind(self) -> None:
        """Let `take` return every key at its due time again, also those that it has returned before."""
        self._heap = [(due_ms, key) for key, due_ms in self._due_ms.items()]
        heapq.heapify(self._heap)

    def take(self, now_ms: int, limit: int) -> list[str]:
        """Return at most `limit` due keys, earliest first; each only once until it is put or woken."""
        taken: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now_ms and len(taken) < limit:
            at_ms, key = heapq.heappop(self._heap)
            if key in self._due_ms and at_ms >= self._due_ms[key]:
                taken[key] = None
        return list(taken)

    @property
    def next_ms(self) -> int:
        """Return a moment that is not after the next due key; 0: there is none."""
        return self._heap[0][0] if self._heap else 0
