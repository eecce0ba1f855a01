"""The projector on a real Redis: the tracker's fold, rebuilt to the byte, through absence and lost answers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from choreo.adapters.redis import RedisStores
from choreo.adapters.redis.server import RedisServer
from choreo.core.state import encode
from choreo.testing.conformance.stores import LINGER_MS
from tests.app.harness import Shop
from tests.support.projecting import busy, caught_up, projector, running, until
from tests.support.redis_server import OwnRedis


@pytest.fixture
async def shop() -> Shop:
    """Open, with its tracker."""
    return await Shop().open()


@pytest.fixture
async def store(own_redis: OwnRedis, shop: Shop) -> AsyncIterator[RedisStores]:
    """Yield stores beside the shop's log, with little patience."""
    opened = RedisStores(own_redis.url, shop.backend.log, shop.clock, linger_ms=LINGER_MS, timeout_s=1.0)
    yield opened
    await opened.close()


async def contents(server: RedisServer) -> dict[bytes, Any]:
    """Return every key below the present generation with all it holds."""
    number = int(await server.ask("GET", "choreo:views:order") or 0)
    root = f"choreo:views:order:{number}:".encode()
    found: dict[bytes, Any] = {}
    for key in await server.ask("KEYS", root + b"*"):
        if await server.ask("TYPE", key) == b"hash":
            found[key.removeprefix(root)] = await server.ask("HGETALL", key)
        else:
            found[key.removeprefix(root)] = await server.ask("ZRANGE", key, 0, -1, "WITHSCORES")
    return found


async def test_the_read_model_is_the_trackers_fold(shop: Shop, store: RedisStores) -> None:
    """View by view, state by state to the byte, and record by record."""
    await busy(shop)
    async with running(shop, projector(shop, store.projections)):
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")
    assert await store.read_model.counts("order") == await shop.backend.read_model.counts("order")
    kept = await store.projections.load("order", 0, list(shop.states))
    assert {key: fold.state for key, fold in kept.items()} == {key: encode(s) for key, s in shop.states.items()}
    for key in shop.states:
        assert await store.read_model.history("order", key) == await shop.backend.read_model.history("order", key)


async def test_dropped_and_rebuilt_it_is_the_same_to_the_byte(shop: Shop, store: RedisStores) -> None:
    """Every key of it, indexes included, however the log is cut the second time."""
    await busy(shop)
    async with running(shop, projector(shop, store.projections, poll_size=10)):
        await caught_up(shop, store.read_model)
        before = await contents(store.server)
        await store.read_model.drop("order")
        assert await store.read_model.digest("order") == {}
    async with running(shop, projector(shop, store.projections, "b")):
        await caught_up(shop, store.read_model)
    assert await contents(store.server) == before
    assert len(before) > 20


async def test_with_redis_stopped_it_holds_its_work(own_redis: OwnRedis, shop: Shop, store: RedisStores) -> None:
    """It keeps its partitions, and goes on when Redis is back."""
    host = projector(shop, store.projections)
    async with running(shop, host):
        await busy(shop)
        await caught_up(shop, store.read_model)
        own_redis.stop()
        await busy(shop, first=10)
        await until(shop, lambda: host.metrics.read().get("storage_errors", 0) > 3)
        await busy(shop, first=20)
        own_redis.start()
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_with_redis_frozen_nothing_is_written_twice(own_redis: OwnRedis, shop: Shop, store: RedisStores) -> None:
    """Redis executes the commands from before the freeze afterwards; the rest is already done."""
    host = projector(shop, store.projections)
    async with running(shop, host):
        await busy(shop)
        await caught_up(shop, store.read_model)
        own_redis.freeze()
        await busy(shop, first=10)
        await until(shop, lambda: host.metrics.read().get("storage_errors", 0) > 1)
        own_redis.thaw()
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")


async def test_with_all_of_redis_lost_it_begins_anew(shop: Shop, store: RedisStores) -> None:
    """Nobody has to tell it."""
    async with running(shop, projector(shop, store.projections)):
        await busy(shop)
        await caught_up(shop, store.read_model)
        await store.server.ask("FLUSHALL")
        await shop.completed("o-1")
        await caught_up(shop, store.read_model)
    assert await store.read_model.digest("order") == await shop.backend.read_model.digest("order")
