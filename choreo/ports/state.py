"""Store of the tracker's states: for each key the state's bytes and the position up to which they are true."""

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
    unacknowledged: bool = False
    """Whether a decision of this key is unacknowledged: a new owner publishes it again."""


class PendingKey(msgspec.Struct, frozen=True):
    """A key that its owner must not forget: it has a timer, or an unacknowledged decision."""

    key: str
    due_ms: int
    unacknowledged: bool


class TrackerStates(Protocol):
    """The part of the store that a tracker reads; it writes through `Consumer.commit`."""

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """Return the rows of these keys; a key without state is absent."""
        ...

    def pending(self, topic: str, partition: int) -> AsyncIterator[PendingKey]:
        """Yield the keys of the partition that have a timer or an unacknowledged decision, without their states."""
        ...


class StateStore(TrackerStates, Protocol):
    """The whole store, for operators and tests too."""

    def scan(self, topic: str, partition: int) -> AsyncIterator[StateRow]:
        """Yield every row of the partition by key."""
        ...

    async def drop(self, topic: str) -> None:
        """Drop every state of the topic and the tracker's offsets: the next start rebuilds from the log."""
        ...
