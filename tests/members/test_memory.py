"""Whether a service takes its inbox for new, for whole or for lost: what it says is certain only where it may be.

The real processes on a real broker and a real Redis. A card that is declined at the first attempt is `certain` where
the service knows that it was the first.
"""

from __future__ import annotations

import os

import pytest

from tests.members.conftest import Servers
from tests.members.scene import FLOW, PARTITIONS, Scene, keys_in, owned, shared
from tests.support.redis_server import OwnRedis
from tests.support.required import needed

redis = needed("redis", "redis")

EVERYWHERE = range(PARTITIONS)


async def declined(scene: Scene, name: str) -> set[bool]:
    """Place an order in each partition whose card is declined; what was said of how certain that is."""
    keys = keys_in(EVERYWHERE, 1, name)
    for key in keys:
        await scene.place(key, card="declined")
    await scene.until(lambda: scene.said("PaymentDeclined", keys), "all cards are declined")
    return {r.event.certain for r in await scene.log() if r.event.type == "PaymentDeclined" and r.event.key in keys}


async def everything_skipped(scene: Scene) -> bool:
    """Whether the service has committed something in each partition."""
    committed = await scene.app.home.log.committed(FLOW, "payment")
    return all(committed[partition] for partition in EVERYWHERE)


def forget(servers: Servers, service: str) -> None:
    """Let Redis lose what this service has kept there."""
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    with redis.Redis.from_url(servers.redis) as client:
        assert client.delete(*client.scan_iter(f"choreo:{prefix}*inbox:{service}:*"))


async def test_a_new_service_is_certain_of_its_first_failure(scene: Scene) -> None:
    """Although it has committed what it skipped long before its first attempt; and after a restart, too."""
    first = scene.fleet.start("payment")
    for key in keys_in(EVERYWHERE, 1, "skipped"):
        await scene.place(key)
    await scene.until(lambda: everything_skipped(scene), "the first events are skipped")
    scene.fleet.start("inventory")
    assert await declined(scene, "first") == {True}
    await scene.stop(first)
    scene.fleet.start("payment")
    assert await declined(scene, "second") == {True}


async def test_two_that_begin_a_new_service_together_are_both_certain(scene: Scene) -> None:
    """Whichever of them was first to find nothing."""
    scene.fleet.start("inventory")
    first, second = scene.fleet.start("payment"), scene.fleet.start("payment")
    await scene.until(lambda: shared(first, second), "both have their share")
    assert await declined(scene, "first") == {True}


async def test_a_service_whose_inbox_is_lost_is_certain_of_nothing(scene: Scene, servers: Servers) -> None:
    """It was lost while nobody looked: the log says by what name it was known."""
    scene.fleet.start("inventory")
    first = scene.fleet.start("payment")
    assert await declined(scene, "first") == {True}
    await scene.stop(first)
    forget(servers, "payment")
    scene.fleet.start("payment")
    assert await declined(scene, "second") == {False}


async def test_an_inbox_lost_while_its_service_runs_is_lost_for_all_its_members(scene: Scene, servers: Servers) -> None:
    """Also for one that starts into what is empty, before the others have noticed."""
    scene.fleet.start("inventory")
    first = scene.fleet.start("payment")
    assert await declined(scene, "first") == {True}
    forget(servers, "payment")
    second = scene.fleet.start("payment")
    await scene.until(lambda: shared(first, second), "both have their share")
    assert await declined(scene, "second") == {False}


async def test_a_service_that_starts_while_redis_is_away_waits_and_is_certain(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It commits nothing before it knows what its memory is."""
    away = OwnRedis(tmp_path_factory.mktemp("away"))
    scene.fleet.start("inventory")
    waiting = scene.fleet.start("payment", CHOREO_REDIS=away.url)
    for key in keys_in(EVERYWHERE, 1, "skipped"):
        await scene.place(key)

    async def said_so() -> bool:
        return "cannot begin yet" in waiting.last_words

    await scene.until(said_so, "it says that it waits")
    assert owned(waiting) == set(EVERYWHERE)
    assert not any((await scene.app.home.log.committed(FLOW, "payment")).values())
    away.start()
    try:
        assert await declined(scene, "first") == {True}
    finally:
        scene.fleet.kill(waiting)
        away.stop()
