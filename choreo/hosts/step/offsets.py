"""Offsets of one partition: read, committed, and the lowest one that is not finished."""

from __future__ import annotations

from collections import deque


class OffsetTracker:
    """The offset up to which one partition was read, and the lowest offset with unfinished jobs."""

    def __init__(self, committed: int) -> None:
        """Begin at the offset `committed`: that of the first record to be handled."""
        self.read = committed
        self.committed = committed
        self._order: deque[int] = deque()
        self._open: dict[int, int] = {}

    def opened(self, offset: int) -> None:
        """Note that the record at this offset makes one job more."""
        if offset in self._open:
            self._open[offset] += 1
        else:
            self._open[offset] = 1
            self._order.append(offset)

    def finished(self, offset: int) -> None:
        """Note that one job of this offset is finished."""
        left = self._open[offset] - 1
        if left:
            self._open[offset] = left
        else:
            del self._open[offset]

    @property
    def lowest(self) -> int:
        """Return the next offset to be committed."""
        order = self._order
        while order and order[0] not in self._open:
            order.popleft()
        return order[0] if order else self.read
