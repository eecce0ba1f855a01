"""Dead letters: records that could not be read or handled, kept with their cause and position until redriven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from choreo.core.events import Position, Record


class DeadLetter(msgspec.Struct, frozen=True):
    """A record set aside. `id` is derived from its position and the step, so that a second attempt adds nothing."""

    id: str
    topic: str
    partition: int
    offset: int
    service: str
    step: str
    cause: str
    """The fault, for people: the error's sentence."""
    set_aside_ms: int
    record: Record
    redriven: int = 0
    """How often it was redriven."""

    @property
    def position(self) -> Position:
        """Return the position of the record in the log."""
        return Position(self.topic, self.partition, self.offset)


class DeadLetters(Protocol):
    """The dead letters of every flow."""

    async def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep them durably; an existing one stays as it is."""
        ...

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """List dead letters, newest first; `after` is the last id of the page before."""
        ...

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter; raises NotFoundError."""
        ...

    async def count(self, topic: str | None = None) -> int:
        """Return the number of dead letters."""
        ...

    async def redriven(self, dead_letter_id: str) -> None:
        """Count one more redrive."""
        ...
