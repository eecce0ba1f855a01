"""A recording: the log of an installation and the views made of it. It is read and compared, never changed.

The installation itself is a recording, and so is a file exported from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from typing import Protocol

from choreo.core.events import Record
from choreo.ports.read_model import InstanceView


class Recording(Protocol):
    """The records of flows, and the views that were made of them."""

    place: str
    """Where it is, for people."""

    @property
    def as_of_ms(self) -> int:
        """Return the moment up to which it is complete, in epoch milliseconds."""
        ...

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the topic; raises NotFoundError."""
        ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on, in order; [] at the end. Raises NotFoundError."""
        ...

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1_000) -> list[Record]:
        """Return the key's records in log order, from after that offset, also those that no view shows yet."""
        ...

    def views(self, flow: str, key: str = "") -> AsyncIterator[InstanceView]:
        """Yield the shown runs of the flow, or of one key."""
        ...

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offset (the next one to fold) up to which the views are true, by partition; absent means 0."""
        ...

    async def set_aside(self, topic: str) -> AbstractSet[tuple[int, int]]:
        """Return partition and offset of every dead letter of the topic."""
        ...
