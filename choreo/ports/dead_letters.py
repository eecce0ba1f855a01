"""Dead letters: records that could not be read or handled, kept with their cause and position until redriven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from choreo.core.events import Position, Record


class DeadLetter(msgspec.Struct, frozen=True):
    """A record set aside. `id` is derived from its position and the step, so that a second try adds nothing."""

    id: str
    topic: str
    partition: int
    offset: int
    service: str
    step: str
    cause: str
    """What was wrong, for people: the error's sentence."""
    set_aside_ms: int
    record: Record
    redriven: int = 0
    """How often it was given back."""

    @property
    def position(self) -> Position:
        """Where the record stands in the log."""
        return Position(self.topic, self.partition, self.offset)


class DeadLetters(Protocol):
    """The dead letters of every flow."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably; one already there stays as it is."""
        ...

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Newest first; `after` is the id the last page ended with."""
        ...

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; raises NotFoundError."""
        ...

    async def count(self, topic: str | None = None) -> int:
        """How many there are."""
        ...

    async def redriven(self, letter_id: str) -> None:
        """Count one more redrive."""
        ...
