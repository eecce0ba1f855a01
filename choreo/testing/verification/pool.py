"""Pools of values: each different value gets a number, so that a state of the whole system is a tuple of numbers.

The parts of the system change one by one. With a part as a number, a transition of a part is computed once and found
again in a dictionary, which is how the exploration is fast over the real core.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Pool(Generic[V]):
    """Values by number, and numbers by the key of a value."""

    def __init__(self) -> None:
        """Start empty."""
        self.values: list[V] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: V, key: Hashable = None) -> int:
        """Return the number of this value; `key` stands for a value that cannot be hashed."""
        at: Hashable = value if key is None else key
        known = self._numbers.get(at)
        if known is None:
            known = self._numbers[at] = len(self.values)
            self.values.append(value)
        return known

    def __getitem__(self, number: int) -> V:
        """Return the value with this number."""
        return self.values[number]

    def __len__(self) -> int:
        """Return how many different values there are."""
        return len(self.values)
