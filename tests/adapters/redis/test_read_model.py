"""The read model on Redis beyond the suite: pages among equals, long words, generations, histories."""

from typing import Any

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.adapters.redis.view_generations import ViewGenerations
from choreo.core.events import Record
from choreo.ports.log import Log
from choreo.ports.projections import Projected
from choreo.ports.read_model import Filter
from choreo.testing.conformance import TOPIC, event
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view
from choreo.testing.conformance.stores import paged


async def test_long_attributes_are_found(stores: RedisStores) -> None:
    """By all of their text; names and values do not run into each other."""
    long = "Bahnhofstrasse " * 50
    await stores.projections.save(batch(0, 1, view(1, city=long), view(2, city=long + "x"), view(3, city="a=b")))
    found = await paged(stores, Filter(attributes={"city": long}), 10)
    assert [item.key for item in found] == ["o-1"]
    assert [item.key for item in await paged(stores, Filter(attributes={"city": "a=b"}), 10)] == ["o-3"]
    assert await paged(stores, Filter(attributes={"city=a": "b"}), 10) == []


async def test_what_was_dropped_leaves_nothing_behind(stores: RedisStores) -> None:
    """Views that are folded meanwhile are not deleted with it."""
    await stores.projections.save(batch(0, 1, view(1), view(2)))
    await stores.read_model.drop(TOPIC)
    await stores.projections.save(batch(0, 1, view(3)))
    await stores.read_model.drop("refund")
    keys = await stores.server.ask("KEYS", "choreo:views:order:*")
    assert keys
    assert all(key.startswith(b"choreo:views:order:1:") for key in keys)
    assert [item.key for item in (await stores.read_model.instances(Filter(), 10)).items] == ["o-3"]


class NotedLog:
    """A log that notes each read."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.reads: list[tuple[int, int]] = []

    async def partitions(self, topic: str) -> int:
        """Return the log's number of partitions."""
        return await self._log.partitions(topic)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Read from the log, and note (offset, limit)."""
        self.reads.append((offset, limit))
        return await self._log.read(topic, partition, offset, limit)


async def test_a_history_reads_what_lies_near_in_one_piece(stores: RedisStores, beside: MemoryBackend) -> None:
    """And distant records alone."""
    await beside.log.create(TOPIC, 1)
    await beside.log.append(TOPIC, [event(f"e-{n}", key="o-1" if n in {3, 20, 500} else "o-2") for n in range(600)])
    await stores.projections.save(Projected(TOPIC, 0, 0, 600, history={"o-1": [3, 20, 500]}))
    noted: Any = NotedLog(beside.log)
    read_model = RedisReadModel(stores.server, ViewGenerations(stores.server, "choreo"), noted)
    assert [record.offset for record in await read_model.history(TOPIC, "o-1")] == [3, 20, 500]
    assert noted.reads == [(3, 18), (500, 1)]
