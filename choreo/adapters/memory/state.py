"""The tracker's states in dictionaries, with a heap of timers for each partition."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from choreo.ports.state import StateRow


class _Partition:
    def __init__(self) -> None:
        self.rows: dict[str, StateRow] = {}
        self.timers: list[tuple[int, str]] = []
        """(due_ms, key) of every row ever saved with a timer; one that its row no longer says is stale."""

    def timer(self) -> tuple[int, str] | None:
        """The earliest that is not stale."""
        while self.timers:
            due_ms, key = self.timers[0]
            row = self.rows.get(key)
            if row is not None and row.due_ms == due_ms:
                return due_ms, key
            heapq.heappop(self.timers)
        return None


class MemoryStates:
    """`choreo.ports.state.StateStore` in memory."""

    def __init__(self, rewind: Callable[[str], None]) -> None:
        self._rewind = rewind
        self._partitions: dict[tuple[str, int], _Partition] = {}

    def save(self, rows: Iterable[StateRow]) -> None:
        """Write rows, inside a commit."""
        for row in rows:
            partition = self._of(row.topic, row.partition)
            partition.rows[row.key] = row
            if row.due_ms:
                heapq.heappush(partition.timers, (row.due_ms, row.key))

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """The rows of these keys."""
        rows = self._of(topic, partition).rows
        return {key: rows[key] for key in keys if key in rows}

    async def due(self, topic: str, partition: int, now_ms: int, limit: int) -> list[StateRow]:
        """Rows whose timer is set and not after now, earliest first."""
        here = self._of(topic, partition)
        found: dict[str, tuple[int, str]] = {}
        while len(found) < limit and (timer := here.timer()) is not None and timer[0] <= now_ms:
            heapq.heappop(here.timers)
            found.setdefault(timer[1], timer)
        for timer in found.values():
            heapq.heappush(here.timers, timer)
        return [here.rows[key] for key in found]

    async def next_due(self, topic: str, partition: int) -> int:
        """The earliest timer, 0 if there is none."""
        timer = self._of(topic, partition).timer()
        return timer[0] if timer else 0

    async def scan(self, topic: str, partition: int, *, unsaid_only: bool = False) -> AsyncIterator[StateRow]:
        """Every row of the partition by key."""
        rows = self._of(topic, partition).rows
        for key in sorted(rows):
            row = rows.get(key)
            if row is not None and (row.unsaid or not unsaid_only):
                yield row

    async def drop(self, topic: str) -> None:
        """Forget every state of the topic and set the tracker back to its beginning."""
        for place in [place for place in self._partitions if place[0] == topic]:
            del self._partitions[place]
        self._rewind(topic)

    def _of(self, topic: str, partition: int) -> _Partition:
        return self._partitions.setdefault((topic, partition), _Partition())
