"""Broker and Redis both stop under load and come back: every order that was accepted ends, and the view shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from choreo.core.errors import NotFoundError, StorageError
from schemas.orders import ShipmentPicked
from tests.kafka.conftest import Servers
from tests.kafka.harness import FLOW, PARTITIONS, Harness, keys_in
from tests.support import required
from tests.support.fleet import SERVICES
from tests.support.kafka import Broker
from tests.support.patience import PATIENCE_S
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.timeout(600)

ORDERS = 5
"""In each partition."""


class Machines(NamedTuple):
    """The servers that can be stopped."""

    broker: Broker
    redis: OwnRedis

    async def stop(self) -> None:
        """Stop both servers, Redis as a machine that fails."""
        self.redis.stop()
        await asyncio.to_thread(self.broker.stop)

    async def start(self) -> None:
        """Start both servers, with the data that they kept."""
        self.redis.start()
        await asyncio.to_thread(self.broker.start)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Yield servers of this module's own."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis = OwnRedis(tmp_path_factory.mktemp("redis"))
        redis.start()
        yield Machines(broker, redis)
        redis.stop()


@pytest.fixture(scope="module")
def servers(machines: Machines) -> Servers:
    """Return where they answer."""
    return Servers(machines.broker.bootstrap, machines.redis.url)


async def placed(harness: Harness, name: str) -> list[str]:
    """Return orders with parcels that are picked at once."""
    keys = keys_in(range(PARTITIONS), ORDERS, name)
    for key in keys:
        await harness.place(key)
        await harness.publish(ShipmentPicked(order_id=key))
    return keys


async def completed(harness: Harness, keys: list[str]) -> bool:
    """Return whether the read model shows all of these as completed."""
    try:
        views = [await harness.app.queries.instance(FLOW, key) for key in keys]
    except (NotFoundError, StorageError):
        return False
    return {view.row.status for view in views} == {"completed"}


async def all_out(harness: Harness) -> bool:
    """Return whether every service has learned that it left its group."""
    published = {worker.role: worker.output.read_text() for worker in harness.fleet.workers}
    return all("lost partitions" in published[service] for service in SERVICES)


async def test_what_both_servers_took_with_them_ends_when_they_are_back(harness: Harness, machines: Machines) -> None:
    """Members are out by then, decisions not published, states written to no changelog; nothing waits for ever."""
    for role in (*SERVICES, "tracker", "tracker", "projector"):
        harness.fleet.start(role)
    before = await placed(harness, "before")
    await harness.until(lambda: completed(harness, before), "the system works", PATIENCE_S)
    under_way = await placed(harness, "under-way")
    await machines.stop()
    assert not await completed(harness, under_way)
    await harness.until(lambda: all_out(harness), "all are out", PATIENCE_S)
    await machines.start()
    await harness.until(lambda: completed(harness, under_way), "what was under way has ended", PATIENCE_S)
    after = await placed(harness, "after")
    await harness.until(lambda: completed(harness, after), "the system works as before", PATIENCE_S)
