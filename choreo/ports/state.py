"""Where the tracker keeps the state of each key: bytes with the position they stand at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec


class StateRow(msgspec.Struct, frozen=True):
    """The state of one key. `position` is the offset of the last event folded into it; `due_ms` its next timer or 0."""

    topic: str
    partition: int
    key: str
    position: int
    state: bytes
    due_ms: int = 0
    unsaid: bool = False
    """Whether a decision of this key was not read back from the log: a new owner says it again."""


class StateStore(Protocol):
    """Written through `Member.commit`, read here."""

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """The rows of these keys; a key without state is absent."""
        ...

    async def due(self, topic: str, partition: int, now_ms: int, limit: int) -> list[StateRow]:
        """Rows whose `due_ms` is set and not after `now_ms`, earliest first."""
        ...

    async def next_due(self, topic: str, partition: int) -> int:
        """The earliest `due_ms` of the partition, 0 if there is none."""
        ...

    def scan(self, topic: str, partition: int, *, unsaid_only: bool = False) -> AsyncIterator[StateRow]:
        """Every row of the partition by key; for a takeover (the unsaid ones) and for comparing with a rebuild."""
        ...

    async def drop(self, topic: str) -> None:
        """Forget every state of the topic and the tracker's offsets: the next start rebuilds from the log."""
        ...
