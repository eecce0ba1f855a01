"""A real redis-server for this folder: one for all tests, emptied before each, and another for tests that stop it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance.stores import LINGER_MS, Lose
from tests.support.redis_server import OwnRedis


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """Yield a server that nobody stops."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """Yield a server to stop, freeze and start."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def stores(shared_redis: OwnRedis, beside: MemoryBackend, clock: VirtualClock) -> AsyncIterator[RedisStores]:
    """Yield stores on an empty server."""
    opened = RedisStores(shared_redis.url, beside.log, clock, linger_ms=LINGER_MS)
    await opened.server.ask("FLUSHALL")
    yield opened
    await opened.close()


@pytest.fixture
def lose(stores: RedisStores) -> Lose:
    """Lose everything on the server."""
    return lambda: stores.server.ask("FLUSHALL")
