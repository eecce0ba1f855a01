"""Broker and Redis both stop under load and come back: every order that was accepted ends, and the view says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from choreo.core.errors import NotFoundError, StorageError
from schemas.orders import ShipmentPicked
from tests.members.conftest import Servers
from tests.members.scene import FLOW, PARTITIONS, Scene, keys_in
from tests.support import required
from tests.support.fleet import SERVICES
from tests.support.kafka import Broker
from tests.support.redis_server import OwnRedis

PATIENCE_S = 150.0
"""A broker's return takes 10 s, members' sessions 10 more, a tracker made anew 60; on a machine that is shared."""
ORDERS = 5
"""In each partition."""


class Machines(NamedTuple):
    """What can be stopped."""

    broker: Broker
    redis: OwnRedis

    async def stop(self) -> None:
        """Both, Redis as a machine that fails would."""
        self.redis.stop()
        await asyncio.to_thread(self.broker.stop)

    async def start(self) -> None:
        """Both, with what they kept."""
        self.redis.start()
        await asyncio.to_thread(self.broker.start)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Of this module's own."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis = OwnRedis(tmp_path_factory.mktemp("redis"))
        redis.start()
        yield Machines(broker, redis)
        redis.stop()


@pytest.fixture(scope="module")
def servers(machines: Machines) -> Servers:
    """Where they answer."""
    return Servers(machines.broker.bootstrap, machines.redis.url)


async def placed(scene: Scene, name: str) -> list[str]:
    """Orders whose parcels are picked as soon as they are there."""
    keys = keys_in(range(PARTITIONS), ORDERS, name)
    for key in keys:
        await scene.place(key)
        await scene.publish(ShipmentPicked(order_id=key))
    return keys


async def completed(scene: Scene, keys: list[str]) -> bool:
    """Whether the read model shows all of these as completed."""
    try:
        views = [await scene.app.queries.instance(FLOW, key) for key in keys]
    except (NotFoundError, StorageError):
        return False
    return {view.row.status for view in views} == {"completed"}


async def all_out(scene: Scene) -> bool:
    """Whether every service has heard that it is no member any more."""
    said = {worker.role: worker.output.read_text() for worker in scene.fleet.workers}
    return all("lost partitions" in said[service] for service in SERVICES)


async def test_what_both_servers_took_with_them_ends_when_they_are_back(scene: Scene, machines: Machines) -> None:
    """Members are out by then, decisions said to nobody, states written to no changelog; nothing waits for ever."""
    for role in (*SERVICES, "tracker", "tracker", "projector"):
        scene.fleet.start(role)
    before = await placed(scene, "before")
    await scene.until(lambda: completed(scene, before), "the system works", PATIENCE_S)
    under_way = await placed(scene, "under-way")
    await machines.stop()
    assert not await completed(scene, under_way)
    await scene.until(lambda: all_out(scene), "all are out", PATIENCE_S)
    await machines.start()
    await scene.until(lambda: completed(scene, under_way), "what was under way has ended", PATIENCE_S)
    after = await placed(scene, "after")
    await scene.until(lambda: completed(scene, after), "the system works as before", PATIENCE_S)
