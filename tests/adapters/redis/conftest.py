"""A real redis-server for this folder: one for all tests, emptied before each, and one of its own for who stops it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from choreo.adapters.memory import MemoryHome
from choreo.adapters.redis import RedisStores
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S
from tests.support.redis_server import OwnRedis

LINGER_MS = 7 * 24 * 3_600_000


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A server that nobody stops."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A server to stop, freeze and start."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of the home under test."""
    return VirtualClock()


@pytest.fixture
def beside(clock: VirtualClock) -> MemoryHome:
    """The home whose log the stores stand beside."""
    return MemoryHome(clock, lease_s=LEASE_S)


@pytest.fixture
async def stores(shared_redis: OwnRedis, beside: MemoryHome, clock: VirtualClock) -> AsyncIterator[RedisStores]:
    """Stores on an empty server."""
    opened = RedisStores(shared_redis.url, beside.log, clock, linger_ms=LINGER_MS)
    await opened.server.ask("FLUSHALL")
    yield opened
    await opened.close()
