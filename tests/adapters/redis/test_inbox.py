"""The inbox on Redis beyond the suite: lost memory, lost answers, absence, and keys that expire."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, RunMark
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.stores import CHARGE, LINGER_MS, certain
from tests.support.redis_server import OwnRedis

Opener = Callable[..., RedisStores]


@pytest.fixture
async def opened(own_redis: OwnRedis, beside: MemoryBackend, clock: VirtualClock) -> AsyncIterator[Opener]:
    """Yield a function that opens stores on a server of the test's own, each as a separate process would."""
    several: list[RedisStores] = []

    def open_stores(timeout_s: float = 2.0) -> RedisStores:
        stores = RedisStores(own_redis.url, beside.log, clock, linger_ms=LINGER_MS, timeout_s=timeout_s)
        several.append(stores)
        return stores

    yield open_stores
    for stores in several:
        await stores.close()


async def test_a_mark_of_old_without_a_place_can_be_read(stores: RedisStores) -> None:
    """It stays without: the next record may be a duplicate of CompensationStarted."""
    inbox = stores.inbox("payment")
    await inbox.mark({"r-1": RunMark(compensating=True, stopped_at=7)})
    (name,) = await stores.server.ask("KEYS", "*run:r-1")
    await stores.server.ask("HDEL", name, "stopped_at")
    await inbox.mark({"r-1": RunMark(compensating=True, stopped_at=9)})
    assert await inbox.marks(["r-1"]) == {"r-1": RunMark(compensating=True)}


async def test_another_process_learns_that_memory_was_lost(opened: Opener) -> None:
    """From the note of the first one that noticed."""
    first, second = opened(), opened()
    await first.inbox("payment").begin([CHARGE])
    await first.server.ask("FLUSHALL")
    await first.inbox("payment").begin([CHARGE])
    assert not await certain(second, "t-1", 1)


async def test_a_memory_of_which_nothing_was_said_is_new(stores: RedisStores) -> None:
    """A log without any inbox id: the first attempt that is counted is the first one."""
    inbox = stores.inbox("payment")
    assert inbox.name == ""
    await inbox.compare([])
    await inbox.begin([CHARGE])
    assert inbox.name.startswith("inbox-")
    assert await certain(stores, "t-1", 1)


async def test_a_memory_that_is_known_by_its_name_is_whole(opened: Opener) -> None:
    """For a later process, too."""
    first, second = opened(), opened()
    await first.inbox("payment").compare([])
    await second.inbox("payment").compare([first.inbox("payment").name])
    await second.inbox("payment").begin([CHARGE])
    assert await certain(second, "t-1", 1)


@pytest.mark.parametrize("said", ["its name", ""])
async def test_a_memory_that_the_log_knows_by_another_name_is_lost(opened: Opener, said: str) -> None:
    """The inbox in its place has another id; a commit without an id is from a consumer that knew none."""
    first, second = opened(), opened()
    await first.inbox("payment").compare([])
    lost = first.inbox("payment").name
    await first.server.ask("FLUSHALL")
    await second.inbox("payment").compare([said and lost])
    await second.inbox("payment").begin([CHARGE])
    assert second.inbox("payment").name not in {"", lost}
    assert not await certain(second, "t-1", 1)
    await second.inbox("shipping").compare([])
    await second.inbox("shipping").begin([CHARGE])
    (published,) = await second.inbox("shipping").record([outcome(certain_if=1)])
    assert published.certain, "another service's memory is another's"


async def test_who_is_told_of_no_name_knows_what_it_knew(stores: RedisStores) -> None:
    """A process that has met the memory and is given a partition that is new to everybody."""
    inbox = stores.inbox("payment")
    await inbox.compare([])
    await stores.server.ask("FLUSHALL")
    await inbox.compare([])
    await inbox.begin([CHARGE])
    assert not await certain(stores, "t-1", 1)


async def test_those_that_meet_a_new_memory_together_know_it_by_one_name(opened: Opener) -> None:
    """The id of the first is the one that stays, whole."""
    several = [opened().inbox("payment") for _ in range(5)]
    await asyncio.gather(*(inbox.compare([]) for inbox in several))
    assert len({inbox.name for inbox in several}) == 1
    await several[0].begin([CHARGE])
    (published,) = await several[1].record([outcome(certain_if=1)])
    assert published.certain


@pytest.mark.parametrize("call", ["begin", "record"])
async def test_who_knew_the_lost_memory_tells_those_who_found_a_new_one(opened: Opener, call: str) -> None:
    """One process ran on, one started into the new memory: both know it by one name, and as not the first."""
    old, new = opened(), opened()
    await old.inbox("payment").begin([CHARGE])
    await old.server.ask("FLUSHALL")
    await new.inbox("payment").compare([])
    if call == "begin":
        await old.inbox("payment").begin([CHARGE])
    else:
        assert not await certain(old, "t-1", 1)
    assert old.inbox("payment").name == new.inbox("payment").name
    await new.inbox("payment").begin([AttemptRequest("t-2", "charge", "r-2")])
    assert not await certain(new, "t-2", 1)


async def test_entries_of_ended_runs_expire(stores: RedisStores) -> None:
    """After linger, by themselves; a late row takes the time that is left. Open runs stay."""
    inbox, ttl = stores.inbox("payment"), lambda name: stores.server.ask("PTTL", f"choreo:inbox:payment:{name}")
    await inbox.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2", "r-2")])
    await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(compensating=True)})
    await inbox.record([outcome()])
    await inbox.begin([AttemptRequest("t-3", "tell", "r-1"), AttemptRequest("t-4", "tell", "")])
    for name in ("run:r-1", "row:charge:t-1", "row:tell:t-3", "row:tell:t-4"):
        assert 0 < await ttl(name) <= LINGER_MS, name
    assert await ttl("run:r-2") == await ttl("row:charge:t-2") == -1


async def test_what_ended_long_ago_is_not_listed_for_ever(stores: RedisStores, clock: VirtualClock) -> None:
    """The list of ended runs is cut as their keys go."""
    inbox = stores.inbox("payment")
    await inbox.mark({"r-1": RunMark(ended=True)})
    await clock.advance(LINGER_MS / 1_000 + 1)
    await inbox.mark({"r-2": RunMark(ended=True)})
    assert await stores.server.ask("ZRANGE", "choreo:inbox:payment:ended", 0, -1) == [b"r-2"]


async def test_many_ended_runs_are_forgotten_in_pieces(stores: RedisStores, clock: VirtualClock) -> None:
    """Every one of them, with nothing left behind but the mark of the memory."""
    inbox = stores.inbox("payment")
    await inbox.begin([AttemptRequest(f"t-{n}", "charge", f"r-{n}", f"r-{n}") for n in range(1_200)])
    await inbox.mark({f"r-{n}": RunMark(ended=True) for n in range(1_200)})
    await clock.advance(1)
    assert await inbox.forget(clock.now_ms()) == 1_200
    assert await stores.server.ask("KEYS", "choreo:inbox:*") == [b"choreo:inbox:payment:memory"]


async def test_a_batch_is_one_round_trip(stores: RedisStores) -> None:
    """However many attempts and outcomes it has."""
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    await inbox.record([outcome()])
    await stores.server.ask("CONFIG", "RESETSTAT")
    await inbox.begin([AttemptRequest(f"t-{n}", "charge", f"r-{n}", f"r-{n}") for n in range(2, 502)])
    await inbox.record([outcome(trigger=f"t-{n}") for n in range(2, 502)])
    stats = await stores.server.ask("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in stats


async def test_a_server_that_is_away_is_said_and_found_again(own_redis: OwnRedis, opened: Opener) -> None:
    """Every error names the remedy; when it is back the same inbox goes on, and nothing was forgotten."""
    inbox = opened().inbox("payment")
    await inbox.begin([CHARGE])
    await inbox.mark({"r-1": RunMark(compensating=True)})
    own_redis.stop()
    for _ in range(2):
        with pytest.raises(StorageError, match="Start it, or correct CHOREO_REDIS"):
            await inbox.begin([CHARGE])
    for call in (inbox.record([outcome()]), inbox.marks(["r-1"]), inbox.recorded([("t-1", "charge")])):
        with pytest.raises(StorageError, match=f"Redis at 127.0.0.1:{own_redis.port}"):
            await call
    own_redis.start()
    assert await inbox.marks(["r-1"]) == {"r-1": RunMark(compensating=True)}
    assert await inbox.begin([CHARGE]) == [AttemptGrant(2)]
    assert await inbox.record([outcome()])


async def test_a_server_that_is_away_is_reported_until_it_answers(
    own_redis: OwnRedis, beside: MemoryBackend, clock: VirtualClock
) -> None:
    """Also where nobody but the check asks for it."""
    reports = DependencyReports(clock)
    stores = RedisStores(own_redis.url, beside.log, clock, linger_ms=LINGER_MS, dependencies=reports)
    await stores.check()
    assert reports.all() == []
    own_redis.stop()
    with pytest.raises(StorageError):
        await stores.check()
    (away,) = reports.all()
    assert (away.name, away.remedy) == ("redis", "Start it, or correct CHOREO_REDIS; work is held until it answers.")
    own_redis.start()
    await stores.check()
    assert reports.all() == []
    await stores.close()


async def test_a_call_whose_answer_was_lost_counts_once(own_redis: OwnRedis, opened: Opener) -> None:
    """A server that hangs executes its commands later: a repeated begin is the same attempt."""
    inbox = opened(timeout_s=0.2).inbox("payment")
    await inbox.marks([])
    await inbox.begin([AttemptRequest("t-0", "charge", "r-0")])
    own_redis.freeze()
    for _ in range(3):
        with pytest.raises(StorageError, match="See what keeps it busy"):
            await inbox.begin([CHARGE])
    own_redis.thaw()
    assert await inbox.begin([CHARGE]) == [AttemptGrant(1)]
    assert await inbox.begin([CHARGE]) == [AttemptGrant(2)]


async def test_holds_that_lapsed_while_the_server_was_away_are_respected(
    own_redis: OwnRedis, opened: Opener, clock: VirtualClock
) -> None:
    """Their processes could not renew them: living processes have the time of one lease to renew them."""
    holder, successor = opened().inbox("payment"), opened(timeout_s=0.3).inbox("payment")
    short, hold = AttemptLease("a", 1), AttemptLease("b", 10_000)
    await holder.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2")], short)
    own_redis.stop()
    with pytest.raises(StorageError):
        await successor.begin([CHARGE], hold)
    own_redis.start()
    (held,) = await successor.begin([CHARGE], hold)
    assert held == AttemptGrant(0, held_ms=10_000)
    await holder.renew([("t-1", "charge")], AttemptLease("a", 60_000))
    await clock.advance(10)
    living, dead = await successor.begin([CHARGE, AttemptRequest("t-2", "charge", "r-2")], hold)
    assert living.held_ms > 10_000
    assert dead == AttemptGrant(2)


async def test_a_server_that_may_drop_keys_is_not_used(own_redis: OwnRedis, opened: Opener) -> None:
    """Until it is set right: work is held meanwhile."""
    own_redis.stop()
    own_redis.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    stores = opened()
    with pytest.raises(StorageError, match="Set maxmemory-policy to noeviction"):
        await stores.inbox("payment").begin([CHARGE])
    own_redis.stop()
    own_redis.start("--maxmemory", "100mb")
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]


async def test_an_error_names_the_server_without_its_password(own_redis: OwnRedis, beside: MemoryBackend) -> None:
    """Logs are read by many."""
    url = own_redis.url.replace("redis://", "redis://teller:s3cret@")
    stores = RedisStores(url, beside.log, VirtualClock(), linger_ms=LINGER_MS)
    with pytest.raises(StorageError, match="Correct the user and password") as caught:
        await stores.inbox("payment").begin([CHARGE])
    assert "s3cret" not in str(caught.value)
    await stores.close()


def test_what_is_no_address_is_refused(beside: MemoryBackend) -> None:
    """With an example of a valid one."""
    with pytest.raises(SettingsError, match="redis://host:6379/0"):
        RedisStores("localhost:6379", beside.log, VirtualClock(), linger_ms=LINGER_MS)
