"""Dead letters in a dictionary, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec

from choreo.adapters.errors import no_dead_letter
from choreo.ports.dead_letters import DeadLetter


class MemoryDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in memory."""

    def __init__(self) -> None:
        self._dead_letters: dict[str, DeadLetter] = {}

    async def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters; one that is already stored stays unchanged."""
        self.add_now(dead_letters)

    def add_now(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters as `add` does, inside a commit."""
        for dead_letter in dead_letters:
            self._dead_letters.setdefault(dead_letter.id, dead_letter)

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters, newest first; raises NotFoundError if no dead letter has the id `after`."""
        newest = reversed(self._dead_letters.values())
        if after:
            await self.get(after)
            for dead_letter in newest:
                if dead_letter.id == after:
                    break
        return list(islice((dead_letter for dead_letter in newest if topic in (None, dead_letter.topic)), limit))

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter; raises NotFoundError."""
        dead_letter = self._dead_letters.get(dead_letter_id)
        if dead_letter is None:
            raise no_dead_letter(dead_letter_id)
        return dead_letter

    async def count(self, topic: str | None = None) -> int:
        """Count the dead letters."""
        return sum(topic in (None, dead_letter.topic) for dead_letter in self._dead_letters.values())

    async def redriven(self, dead_letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""
        dead_letter = await self.get(dead_letter_id)
        self._dead_letters[dead_letter_id] = msgspec.structs.replace(dead_letter, redriven=dead_letter.redriven + 1)
