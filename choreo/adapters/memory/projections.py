"""The projector's writes in memory, with a read model of their own; it behaves as a store beside the log.

Nothing is awaited between the check of a partition's position and the last change, so a save is a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.topics import Topics
from choreo.ports.projections import KeyFold, Projected


class MemoryProjections:
    """`choreo.ports.projections.Projections` in memory; `.read_model` shows the saved views."""

    def __init__(self, topics: Topics) -> None:
        """Read the records of histories from `topics`; the index of records in a batch is not needed."""
        self._positions: dict[str, dict[int, int]] = {}
        self._folds: dict[tuple[str, str], KeyFold] = {}
        self.read_model: MemoryReadModel = MemoryReadModel(topics, self._forget, self._folded)

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the next offset to fold, by partition."""
        return dict(self._folded(topic))

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:  # noqa: ARG002 - a key has one
        """Return the saved folds of these keys."""
        return {key: self._folds[topic, key] for key in keys if (topic, key) in self._folds}

    async def save(self, batch: Projected) -> int:
        """Save the batch if it begins at the partition's position; return the position after it."""
        stands = self._folded(batch.topic).get(batch.partition, 0)
        if stands != batch.begins:
            return stands
        self._folds.update({(batch.topic, kept.key): kept for kept in batch.keys})
        self.read_model.save(batch.views)
        self._positions.setdefault(batch.topic, {})[batch.partition] = batch.position
        return batch.position

    def _folded(self, topic: str) -> dict[int, int]:
        return self._positions.get(topic, {})

    def _forget(self, topic: str) -> None:
        self._positions.pop(topic, None)
        for place in [place for place in self._folds if place[0] == topic]:
            del self._folds[place]
