"""On a real broker and Redis: a step behind a wait runs once it is open, also where its process or its inbox died."""

from __future__ import annotations

import pytest

from choreo.adapters.redis.server import RedisServer
from schemas.orders import ShipmentPicked
from tests.members.conftest import Servers
from tests.members.scene import FLOW, PARTITIONS, Scene, keys_in

WITHIN_S = 60.0


async def _worked(scene: Scene, service: str) -> bool:
    """Whether the service has committed everything that stands in the log."""
    ends = {p: await scene.app.home.log.end(FLOW, p) for p in range(PARTITIONS)}
    committed = await scene.app.home.log.committed(FLOW, service)
    return all(committed.get(partition, 0) >= end for partition, end in ends.items())


@pytest.mark.parametrize("lost", [False, True], ids=["its process died", "its inbox was lost too"])
async def test_an_early_pick_confirms_the_order_once_it_is_shipped(
    scene: Scene, servers: Servers, *, lost: bool
) -> None:
    """The pick is kept by a process that is killed; its heir finds it in the inbox, or folds it again from the log."""
    for service in ("inventory", "payment"):
        scene.fleet.start(service)
    victim = scene.fleet.start("notification")
    keys = keys_in(range(PARTITIONS), 2, "early")
    for key in keys:
        await scene.place(key)
        await scene.publish(ShipmentPicked(order_id=key))
    await scene.place("declined", card="declined")
    await scene.publish(ShipmentPicked(order_id="declined"))
    await scene.until(lambda: scene.said("PaymentCharged", keys), "all are paid")
    await scene.until(lambda: scene.said("PaymentDeclined", ["declined"]), "one is declined")
    await scene.until(lambda: _worked(scene, "notification"), "the picks are read")
    assert await scene.keys("OrderConfirmed") == []
    scene.fleet.kill(victim)
    if lost:
        server = RedisServer(servers.redis)
        await server.ask("FLUSHALL")
        await server.close()
    scene.fleet.start("notification")
    scene.fleet.start("shipping")
    await scene.until(lambda: scene.said("OrderConfirmed", keys), "all are confirmed", WITHIN_S)
    await scene.until(lambda: _worked(scene, "notification"), "nothing is left to be read")
    assert sorted(await scene.keys("OrderConfirmed")) == sorted(keys), "each once, and never the declined one"
    records = await scene.log()
    for key in keys:
        types = [record.event.type for record in records if record.event.key == key]
        assert types.index("ShipmentPicked") < types.index("ShipmentCreated") < types.index("OrderConfirmed")
