"""The watch of consumer groups in a process that answers questions."""

from __future__ import annotations

import asyncio

from choreo.app.query.groups import Group
from choreo.app.query.queries import Queries
from choreo.wiring.group_watch import watch_groups
from tests.app.harness import Shop


class Counted(Queries):
    """Queries that let a member join after the second look, and stop the watch after the third."""

    shop: Shop
    stop: asyncio.Event
    looks: int = 0

    async def groups(self, flow: str) -> list[Group]:
        """Look, and count it."""
        self.looks += 1
        if self.looks == 2:
            await self.shop.open()
        if self.looks == 3:
            await self.shop.backend.log.consumer("order", "stock", "stock-pod")
            self.stop.set()
        return await super().groups(flow)


async def test_groups_are_observed_until_the_process_stops() -> None:
    """A flow without a topic does not end the watch; the memory of the process has the changes."""
    shop = Shop()
    backend = shop.backend
    stores = (backend.log, backend.read_model, backend.dead_letters)
    queries = Counted(shop.flows, *stores, shop.codec, shop.clock, memory=shop.memory)
    queries.shop, queries.stop = shop, asyncio.Event()
    await watch_groups(queries, shop.clock, queries.stop, look_s=0.001)
    assert queries.looks == 3
    seen = shop.memory.seen("order", "stock", 0)
    assert [change.joined for change in seen.changes] == [("stock-pod",)]
