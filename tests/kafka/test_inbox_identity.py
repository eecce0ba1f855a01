"""Whether a service takes its inbox for new, for whole or for lost: its failures are certain only where they may be.

The real processes on a real broker and a real Redis. A card that is declined at the first attempt is `certain` where
the service knows that it was the first.
"""

from __future__ import annotations

import os

import pytest

from tests.kafka.conftest import Servers
from tests.kafka.harness import FLOW, PARTITIONS, Harness, declined, keys_in, owned, shared
from tests.support.redis_server import OwnRedis
from tests.support.required import needed

redis = needed("redis", "redis")

EVERYWHERE = range(PARTITIONS)


async def everything_skipped(harness: Harness) -> bool:
    """Return whether the service has committed something in each partition."""
    committed = await harness.app.backend.log.committed(FLOW, "payment")
    return all(committed[partition] for partition in EVERYWHERE)


def forget(servers: Servers, service: str) -> None:
    """Let Redis lose this service's inbox."""
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    with redis.Redis.from_url(servers.redis) as client:
        assert client.delete(*client.scan_iter(f"choreo:{prefix}*inbox:{service}:*"))


async def test_a_new_service_is_certain_of_its_first_failure(harness: Harness) -> None:
    """Although it has committed skipped records long before its first attempt; and after a restart, too."""
    first = harness.fleet.start("payment")
    for key in keys_in(EVERYWHERE, 1, "skipped"):
        await harness.place(key)
    await harness.until(lambda: everything_skipped(harness), "the first events are skipped")
    harness.fleet.start("inventory")
    assert await declined(harness, "first") == {True}
    await harness.stop(first)
    harness.fleet.start("payment")
    assert await declined(harness, "second") == {True}


async def test_two_that_begin_a_new_service_together_are_both_certain(harness: Harness) -> None:
    """Whichever of them was first to find nothing."""
    harness.fleet.start("inventory")
    first, second = harness.fleet.start("payment"), harness.fleet.start("payment")
    await harness.until(lambda: shared(first, second), "both have their share")
    assert await declined(harness, "first") == {True}


async def test_a_service_whose_inbox_is_lost_is_certain_of_nothing(harness: Harness, servers: Servers) -> None:
    """It was lost while nobody looked: the log has the id under which it was known."""
    harness.fleet.start("inventory")
    first = harness.fleet.start("payment")
    assert await declined(harness, "first") == {True}
    await harness.stop(first)
    forget(servers, "payment")
    harness.fleet.start("payment")
    assert await declined(harness, "second") == {False}


async def test_an_inbox_lost_while_its_service_runs_is_lost_for_all_its_members(
    harness: Harness, servers: Servers
) -> None:
    """Also for one that starts with the empty inbox, before the others have noticed."""
    harness.fleet.start("inventory")
    first = harness.fleet.start("payment")
    assert await declined(harness, "first") == {True}
    forget(servers, "payment")
    second = harness.fleet.start("payment")
    await harness.until(lambda: shared(first, second), "both have their share")
    assert await declined(harness, "second") == {False}


async def test_a_service_that_starts_while_redis_is_away_waits_and_is_certain(
    harness: Harness, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It commits nothing before it knows the identity of its inbox."""
    away = OwnRedis(tmp_path_factory.mktemp("away"))
    harness.fleet.start("inventory")
    waiting = harness.fleet.start("payment", CHOREO_REDIS=away.url)
    for key in keys_in(EVERYWHERE, 1, "skipped"):
        await harness.place(key)

    async def said_so() -> bool:
        return "cannot begin yet" in waiting.last_words

    await harness.until(said_so, "it says that it waits")
    assert owned(waiting) == set(EVERYWHERE)
    assert not any((await harness.app.backend.log.committed(FLOW, "payment")).values())
    away.start()
    try:
        assert await declined(harness, "first") == {True}
    finally:
        harness.fleet.kill(waiting)
        away.stop()
