"""Another server behind the address, another role, another policy, fewer rights: noticed, reported, and survived."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.inbox import AttemptGrant, AttemptRequest
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.stores import CHARGE, LINGER_MS
from tests.adapters.store_calls import CALLS
from tests.support.kafka import free_ports
from tests.support.patience import PATIENCE_S
from tests.support.redis_server import OwnRedis
from tests.support.relay import Relay

Opener = Callable[[str], RedisStores]


@pytest.fixture
def second_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """Yield a server beside `own_redis`."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def reports(clock: VirtualClock) -> DependencyReports:
    """Return the reports of dependencies that the process under test cannot use."""
    return DependencyReports(clock)


@pytest.fixture
async def opened(beside: MemoryBackend, clock: VirtualClock, reports: DependencyReports) -> AsyncIterator[Opener]:
    """Yield a function that opens stores at an address."""
    several: list[RedisStores] = []

    def open_stores(url: str) -> RedisStores:
        several.append(RedisStores(url, beside.log, clock, linger_ms=LINGER_MS, dependencies=reports))
        return several[-1]

    yield open_stores
    for stores in several:
        await stores.close()


@asynccontextmanager
async def replicated(primary: OwnRedis, replica: OwnRedis) -> AsyncIterator[Relay]:
    """Yield an address that leads to the primary, with a replica beside it."""
    replica.cli("REPLICAOF", "127.0.0.1", str(primary.port))
    await until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
    async with Relay.to(primary.port) as relay:
        yield relay


async def fail_over(relay: Relay, old: OwnRedis, new: OwnRedis) -> None:
    """Swap the roles, and lead the address to the new primary; connections to the old one stay open."""
    await until(lambda: offset_of(old) == offset_of(new))
    new.cli("REPLICAOF", "NO", "ONE")
    old.cli("REPLICAOF", "127.0.0.1", str(new.port))
    await until(lambda: "role:slave" in old.cli("INFO", "replication"))
    relay.target = new.port


def offset_of(server: OwnRedis) -> str:
    """Return how far its stream of writes is."""
    return next(line for line in server.cli("INFO", "replication").splitlines() if "master_repl_offset" in line)


def is_primary(server: OwnRedis) -> bool:
    """Return whether it is a primary. A sentinel that promotes it ends its connections, this one too."""
    try:
        return "role:master" in server.cli("INFO", "replication")
    except subprocess.CalledProcessError:
        return False


async def until(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until another process has done something."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - another process does it, and tells nobody
            await asyncio.sleep(0)


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_finds_the_new_primary(
    own_redis: OwnRedis, second_redis: OwnRedis, opened: Opener, reports: DependencyReports, call: str
) -> None:
    """The old one stays as a replica and keeps its connections; scripts, pipelines and single commands alike."""
    async with replicated(own_redis, second_redis) as relay:
        stores = opened(f"redis://127.0.0.1:{relay.port}/0")
        assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
        await fail_over(relay, own_redis, second_redis)
        await CALLS[call](stores)
        await stores.check()
        assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(2)]
        assert "begun" in second_redis.cli("HKEYS", "choreo:inbox:payment:row:charge:t-1")
        assert reports.all() == []


async def test_a_process_that_only_reads_leaves_a_primary_that_became_a_replica(
    own_redis: OwnRedis, second_redis: OwnRedis, opened: Opener
) -> None:
    """A replica answers reads for ever: the check looks at its role."""
    async with replicated(own_redis, second_redis) as relay:
        stores = opened(f"redis://127.0.0.1:{relay.port}/0")
        await stores.check()
        await fail_over(relay, own_redis, second_redis)
        own_redis.stop()
        second_redis.cli("HSET", "choreo:views:order:0:positions", "0", "7")
        await stores.check()
        assert await stores.read_model.positions("order") == {0: 7}


async def test_a_promoted_replica_may_lack_the_last_writes_so_nothing_is_certain(
    own_redis: OwnRedis, second_redis: OwnRedis, opened: Opener
) -> None:
    """Neither for running processes, nor for one that starts later; a new service has nothing to lose."""
    async with replicated(own_redis, second_redis) as relay:
        url = f"redis://127.0.0.1:{relay.port}/0"
        inbox = opened(url).inbox("payment")
        await inbox.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2")])
        await fail_over(relay, own_redis, second_redis)
        (published,) = await inbox.record([outcome(trigger="t-1", certain_if=1)])
        assert not published.certain
    later = opened(second_redis.url)
    (published,) = await later.inbox("payment").record([outcome(trigger="t-2", certain_if=1)])
    assert not published.certain
    await later.inbox("shipping").begin([CHARGE])
    (published,) = await later.inbox("shipping").record([outcome(trigger="t-1", certain_if=1)])
    assert published.certain


async def test_a_replica_is_reported_until_it_is_the_primary(
    own_redis: OwnRedis, second_redis: OwnRedis, opened: Opener, reports: DependencyReports
) -> None:
    """Also one that has lost its primary and answers nothing at all (MASTERDOWN)."""
    second_redis.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
    second_redis.cli("REPLICAOF", "127.0.0.1", str(own_redis.port))
    own_redis.stop()
    stores = opened(second_redis.url)
    for _ in range(2):
        with pytest.raises(StorageError, match="Point CHOREO_REDIS to the primary"):
            await stores.inbox("payment").begin([CHARGE])
    with pytest.raises(StorageError, match="why the replica has lost its primary"):
        await opened(second_redis.url).read_model.counts("order")
    assert [one.name for one in reports.all()] == ["redis"]
    second_redis.cli("REPLICAOF", "NO", "ONE")
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
    assert reports.all() == []


LOADING = "Wait: it is loading its data."


async def test_a_server_that_loads_its_data_is_waited_for(
    own_redis: OwnRedis, opened: Opener, reports: DependencyReports
) -> None:
    """And reported meanwhile."""
    stores = opened(own_redis.url)
    await stores.inbox("payment").begin([AttemptRequest("t-2", "charge", "r-2")])
    own_redis.cli("EVAL", "for n = 1, 30000 do redis.call('SET', 'filler:' .. n, n) end", "0")
    own_redis.stop()
    # It answers clients after each 1,024 commands that it has loaded: thirty times, until it was seen to load.
    own_redis.launch("--appendonly", "yes", "--key-load-delay", "200")
    said: list[str] = []

    async def begun() -> bool:
        try:
            await stores.inbox("payment").begin([CHARGE])
        except StorageError as error:
            if error.remedy == LOADING and LOADING not in said:
                await asyncio.to_thread(own_redis.cli, "CONFIG", "SET", "key-load-delay", "0")
            said.append(error.remedy)
            return False
        return True

    async with asyncio.timeout(PATIENCE_S):
        while not await begun():
            assert [one.name for one in reports.all()] == ["redis"]
            await asyncio.sleep(0)
    assert LOADING in said
    assert reports.all() == []


async def test_keys_that_were_evicted_while_it_runs_are_a_lost_inbox_and_views_to_fold_again(
    own_redis: OwnRedis, opened: Opener, reports: DependencyReports
) -> None:
    """The policy is watched: work is held and reported while it evicts; afterwards nothing is certain."""
    stores = opened(own_redis.url)
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    await stores.projections.positions("order")
    own_redis.cli("HSET", "choreo:views:order:0:positions", "0", "7")
    await stores.check()
    own_redis.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    own_redis.cli("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(StorageError, match="Set maxmemory-policy to noeviction"):
        await stores.check()
    assert [(one.name, one.cause.rpartition("(")[2]) for one in reports.all()] == [
        ("redis", "maxmemory-policy allkeys-random)")
    ]
    with pytest.raises(StorageError, match="noeviction"):
        await inbox.begin([AttemptRequest("t-2", "charge", "r-2")])
    for number in range(200):
        own_redis.cli("SET", f"other:{number}", "x" * 10_000)
    own_redis.cli("CONFIG", "SET", "maxmemory", "0")
    await stores.check()
    assert reports.all() == []
    (published,) = await inbox.record([outcome(trigger="t-1", certain_if=1)])
    assert not published.certain
    assert await stores.projections.positions("order") == {}


async def test_a_cluster_or_a_sentinel_is_refused_with_the_remedy(own_redis: OwnRedis, opened: Opener) -> None:
    """Before anything is done: a batch writes keys of many slots."""
    own_redis.stop()
    (bus,) = free_ports(1)
    own_redis.start("--cluster-enabled", "yes", "--cluster-port", str(bus))
    with pytest.raises(SettingsError, match=r"a node of a Redis Cluster.*Name a single primary"):
        await opened(own_redis.url).check()
    with pytest.raises(StorageError, match="Name a single primary"):
        await opened(own_redis.url).inbox("payment").begin([CHARGE])


async def test_a_user_who_may_not_ask_is_refused_at_the_start_and_reported_later(
    own_redis: OwnRedis, opened: Opener, reports: DependencyReports
) -> None:
    """A right that was never there ends the process; one that is taken holds the work until it is given back."""
    rights = ("ON", ">s3cret", "~*", "+@read", "+@write", "+@scripting", "+@connection", "+time")
    own_redis.cli("ACL", "SETUSER", "teller", *rights)
    stores = opened(own_redis.url.replace("redis://", "redis://teller:s3cret@"))
    with pytest.raises(SettingsError, match=r"info.*\+info"):
        await stores.check()
    own_redis.cli("ACL", "SETUSER", "teller", "+info")
    await stores.check()
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
    for taken in ("info", "@write", "@scripting", "evalsha"):
        own_redis.cli("ACL", "SETUSER", "teller", f"-{taken}")
        with pytest.raises(StorageError, match="Let the user do this"):
            await stores.check()
        assert [one.name for one in reports.all()] == ["redis"]
        own_redis.cli("ACL", "SETUSER", "teller", f"+{taken}")
        await stores.check()
        assert reports.all() == []
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(2)]


async def test_sentinels_name_the_primary_and_its_successor(
    own_redis: OwnRedis, second_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory, opened: Opener
) -> None:
    """`redis+sentinel://`: the primary dies, a sentinel promotes the replica, and the work goes on there."""
    second_redis.cli("REPLICAOF", "127.0.0.1", str(own_redis.port))
    await until(lambda: "master_link_status:up" in second_redis.cli("INFO", "replication"))
    sentinel = OwnRedis(tmp_path_factory.mktemp("sentinel"))
    sentinel.start_sentinel("orders", own_redis.port)
    try:
        await until(lambda: str(second_redis.port) in sentinel.cli("SENTINEL", "replicas", "orders"))
        stores = opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/orders/0")
        assert stores.server.where == f"Redis primary 'orders' of the sentinels 127.0.0.1:{sentinel.port}"
        assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
        await until(lambda: offset_of(own_redis) == offset_of(second_redis))
        own_redis.stop()
        with pytest.raises(StorageError):
            await stores.inbox("payment").begin([CHARGE])
        await until(lambda: is_primary(second_redis))
        async with asyncio.timeout(PATIENCE_S):
            while not await goes_on(stores):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
        assert "begun" in second_redis.cli("HKEYS", "choreo:inbox:payment:row:charge:t-1")
        with pytest.raises(SettingsError, match="it is a sentinel"):
            await opened(sentinel.url).check()
    finally:
        sentinel.stop()


async def goes_on(stores: RedisStores) -> bool:
    """Return whether the inbox can be written."""
    try:
        await stores.inbox("payment").begin([CHARGE])
    except StorageError:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel:///orders",
        "redis+sentinel://user:s3cret@host:port/orders",
        "redis+sentinel://user:s3cret@host/orders/one",
        "redis+sentinel://user:s3cret@host/orders?unknown=1",
        "redis://user:s3cret@host:s3cret/0",
    ],
)
def test_another_shape_of_an_address_is_refused_without_its_password(beside: MemoryBackend, url: str) -> None:
    """With the shapes there are."""
    with pytest.raises(SettingsError, match="redis\\+sentinel://host:26379") as caught:
        RedisStores(url, beside.log, VirtualClock(), linger_ms=LINGER_MS)
    assert "s3cret" not in str(caught.value)
