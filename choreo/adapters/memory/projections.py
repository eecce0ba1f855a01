"""What the projector writes, in memory, with a read model of its own: the twin of a store beside the log.

Between looking where a partition stands and the last change nothing is awaited: that is the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.topics import Topics
from choreo.ports.projections import KeyFold, Projected


class MemoryProjections:
    """`choreo.ports.projections.Projections` in memory; `.read_model` shows what was saved."""

    def __init__(self, topics: Topics) -> None:
        """`topics` have the records of the histories: the index of them that a batch brings is not needed."""
        self._positions: dict[str, dict[int, int]] = {}
        self._folds: dict[tuple[str, str], KeyFold] = {}
        self.read_model: MemoryReadModel = MemoryReadModel(topics, self._forget, self._folded)

    async def positions(self, topic: str) -> dict[int, int]:
        """The next offset to fold, by partition."""
        return dict(self._folded(topic))

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:  # noqa: ARG002 - a key has one
        """What is kept of these keys."""
        return {key: self._folds[topic, key] for key in keys if (topic, key) in self._folds}

    async def save(self, batch: Projected) -> int:
        """Make the batch true if the partition stands where it begins; returns where the partition stands then."""
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
