"""Dead letters in a dictionary, in the order they came."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec

from choreo.adapters.refusals import no_letter
from choreo.ports.dead_letters import DeadLetter


class MemoryDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in memory."""

    def __init__(self) -> None:
        self._letters: dict[str, DeadLetter] = {}

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them; one already there stays as it is."""
        self.add_now(letters)

    def add_now(self, letters: Sequence[DeadLetter]) -> None:
        """As `add`, inside a commit."""
        for letter in letters:
            self._letters.setdefault(letter.id, letter)

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Newest first; raises NotFoundError if `after` is no letter."""
        newest = reversed(self._letters.values())
        if after:
            await self.get(after)
            for letter in newest:
                if letter.id == after:
                    break
        return list(islice((letter for letter in newest if topic in (None, letter.topic)), limit))

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; raises NotFoundError."""
        letter = self._letters.get(letter_id)
        if letter is None:
            raise no_letter(letter_id)
        return letter

    async def count(self, topic: str | None = None) -> int:
        """How many there are."""
        return sum(topic in (None, letter.topic) for letter in self._letters.values())

    async def redriven(self, letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""
        letter = await self.get(letter_id)
        self._letters[letter_id] = msgspec.structs.replace(letter, redriven=letter.redriven + 1)
