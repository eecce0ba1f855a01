"""The number of records to read at once from a log with records that may be large: bounded by number and by bytes."""

from __future__ import annotations

from collections.abc import Sequence

from choreo.core.events import Record

PAGE_BYTES = 8 << 20
FIRST = 32
"""Records of a first page, before anything is known of their size; 32 MB of the largest that a broker takes."""
GROWTH = 4


class Pages:
    """The size of one reader's pages: it grows to the number given, unless so many would be too many bytes."""

    def __init__(self, most: int) -> None:
        """Start with a small page; `most` is the largest number of records."""
        self._most = most
        self._limit = min(FIRST, most)

    def limit(self, left: int) -> int:
        """Return the number of records to read, of `left`."""
        return min(self._limit, left)

    def read(self, records: Sequence[Record]) -> None:
        """Set the size of the next page by this one."""
        size = sum(len(record.event.data) for record in records)
        fitting = PAGE_BYTES * len(records) // size if size else self._most
        self._limit = max(1, min(self._most, self._limit * GROWTH, fitting))
