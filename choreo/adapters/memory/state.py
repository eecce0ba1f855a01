"""The tracker's states in dictionaries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from choreo.ports.state import PendingKey, StateRow


class MemoryStates:
    """`choreo.ports.state.StateStore` in memory."""

    def __init__(self, rewind: Callable[[str], None]) -> None:
        self._rewind = rewind
        self._partitions: dict[tuple[str, int], dict[str, StateRow]] = {}

    def save(self, rows: Iterable[StateRow]) -> None:
        """Write rows, inside a commit."""
        for row in rows:
            self._of(row.topic, row.partition)[row.key] = row

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """Return the rows of these keys."""
        rows = self._of(topic, partition)
        return {key: rows[key] for key in keys if key in rows}

    async def pending(self, topic: str, partition: int) -> AsyncIterator[PendingKey]:
        """Yield the keys with a timer or an unacknowledged decision."""
        for row in list(self._of(topic, partition).values()):
            if row.due_ms or row.unacknowledged:
                yield PendingKey(row.key, row.due_ms, unacknowledged=row.unacknowledged)

    async def scan(self, topic: str, partition: int) -> AsyncIterator[StateRow]:
        """Yield every row of the partition by key."""
        rows = self._of(topic, partition)
        for key in sorted(rows):
            row = rows.get(key)
            if row is not None:
                yield row

    async def drop(self, topic: str) -> None:
        """Forget every state of the topic and set the tracker back to its beginning."""
        for place in [place for place in self._partitions if place[0] == topic]:
            del self._partitions[place]
        self._rewind(topic)

    def _of(self, topic: str, partition: int) -> dict[str, StateRow]:
        return self._partitions.setdefault((topic, partition), {})
