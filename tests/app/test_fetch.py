"""Records fetched by their place."""

from __future__ import annotations

from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.steps.log_lookup import NEAR, records_at
from choreo.core.events import Envelope, Position, Record
from choreo.testing.clock import VirtualClock


class CountingLog:
    """A log of one topic that counts how often it is read."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._log = backend.log
        self.reads = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return the log's own answer."""
        self.reads += 1
        return await self._log.read(topic, partition, offset, limit)


async def test_neighbours_are_fetched_in_one_read_and_what_has_gone_is_absent() -> None:
    """Places far apart, or of other partitions, are read each for itself."""
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 2)
    positions = await backend.log.append("order", [Envelope(f"e-{n}", "Placed", "k", "order") for n in range(200)])
    log, last = CountingLog(backend), positions[-1]
    wanted = [positions[3], positions[7], positions[7 + NEAR], last, last._replace(offset=10_000)]
    found = await records_at(log, [*wanted, last._replace(partition=1 - last.partition)])  # type: ignore[arg-type]
    assert {place: record.event.id for place, record in found.items()} == {
        Position("order", last.partition, n): f"e-{n}" for n in (3, 7, 7 + NEAR, 199)
    }
    assert log.reads == 4
