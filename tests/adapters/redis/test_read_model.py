"""What the read model does on Redis beyond the suite: pages among equals, long words, generations, histories."""

from typing import Any

import msgspec

from choreo.adapters.memory import MemoryHome
from choreo.adapters.redis import RedisStores
from choreo.adapters.redis.generations import Generations
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.core.events import Record
from choreo.ports.log import Log
from choreo.ports.projections import Projected
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.conformance import TOPIC, event
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view


async def paged(stores: RedisStores, wanted: Filter, limit: int) -> list[InstanceView]:
    """Every page of the list, one after the other."""
    items, cursor = [], ""
    while True:
        page = await stores.read_model.instances(wanted, limit, cursor)
        items += page.items
        cursor = page.cursor
        if not cursor:
            return items


async def test_runs_of_one_millisecond_are_each_listed_once(stores: RedisStores) -> None:
    """Also where there are more of them than several pages hold."""
    same = [msgspec.structs.replace(view(n), started_ms=7_000) for n in range(100, 200)]
    await stores.projections.save(batch(0, 1, view(5), *same, view(9)))
    listed = await paged(stores, Filter(flow=TOPIC), 3)
    assert [item.started_ms for item in listed] == [9_000, *[7_000] * 100, 5_000]
    assert {item.key for item in listed[1:-1]} == {item.key for item in same}


async def test_the_flows_are_listed_together(stores: RedisStores) -> None:
    """Newest start first whatever the flow, page by page, also where two flows have the same key and run."""
    for flow in ("order", "refund"):
        views = [msgspec.structs.replace(view(n), flow=flow) for n in range(1, 8)]
        await stores.projections.save(batch(0, 1, *views, topic=flow))
    listed = await paged(stores, Filter(), 2)
    assert [item.started_ms for item in listed] == [n * 1_000 for n in range(7, 0, -1) for _ in range(2)]
    assert len({(item.flow, item.key) for item in listed}) == 14


async def test_a_filter_that_lets_few_through_is_walked_to_its_end(stores: RedisStores) -> None:
    """Both indexes are wide and what is in both is rare."""
    views = [
        view(n, status="stuck" if n % 2 else "running", city="Basel" if n % 2 == 0 else "Bern") for n in range(1, 300)
    ]
    await stores.projections.save(
        batch(0, 1, *views, view(400, status="stuck", city="Basel"), view(0, status="stuck", city="Basel"))
    )
    listed = await paged(stores, Filter(flow=TOPIC, status="stuck", attributes={"city": "Basel"}), 1)
    assert [item.key for item in listed] == ["o-400", "o-0"]


async def test_long_attributes_are_found(stores: RedisStores) -> None:
    """By all of their text; names and values do not run into each other."""
    long = "Bahnhofstrasse " * 50
    await stores.projections.save(batch(0, 1, view(1, city=long), view(2, city=long + "x"), view(3, city="a=b")))
    found = await paged(stores, Filter(attributes={"city": long}), 10)
    assert [item.key for item in found] == ["o-1"]
    assert [item.key for item in await paged(stores, Filter(attributes={"city": "a=b"}), 10)] == ["o-3"]
    assert await paged(stores, Filter(attributes={"city=a": "b"}), 10) == []


async def test_what_was_dropped_leaves_nothing_behind(stores: RedisStores) -> None:
    """What is folded meanwhile is not swept away with it."""
    await stores.projections.save(batch(0, 1, view(1), view(2)))
    await stores.read_model.drop(TOPIC)
    await stores.projections.save(batch(0, 1, view(3)))
    await stores.read_model.drop("refund")
    keys = await stores.server.ask("KEYS", "choreo:views:order:*")
    assert keys
    assert all(key.startswith(b"choreo:views:order:1:") for key in keys)
    assert [item.key for item in (await stores.read_model.instances(Filter(), 10)).items] == ["o-3"]


class NotedLog:
    """A log that notes what is read of it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.reads: list[tuple[int, int]] = []

    async def partitions(self, topic: str) -> int:
        """As the log has it."""
        return await self._log.partitions(topic)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """As the log has it; (offset, limit) is noted."""
        self.reads.append((offset, limit))
        return await self._log.read(topic, partition, offset, limit)


async def test_a_history_reads_what_lies_near_in_one_piece(stores: RedisStores, beside: MemoryHome) -> None:
    """And what lies far apart by itself."""
    await beside.log.create(TOPIC, 1)
    await beside.log.append(TOPIC, [event(f"e-{n}", key="o-1" if n in {3, 20, 500} else "o-2") for n in range(600)])
    await stores.projections.save(Projected(TOPIC, 0, 0, 600, history={"o-1": [3, 20, 500]}))
    noted: Any = NotedLog(beside.log)
    read_model = RedisReadModel(stores.server, Generations(stores.server, "choreo"), noted)
    assert [record.offset for record in await read_model.history(TOPIC, "o-1")] == [3, 20, 500]
    assert noted.reads == [(3, 18), (500, 1)]
