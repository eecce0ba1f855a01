"""What the inbox does on Redis beyond the suite: lost memory, lost answers, absence, and keys that go by themselves."""

from collections.abc import AsyncIterator, Callable

import pytest

from choreo.adapters.memory import MemoryHome
from choreo.adapters.redis import RedisStores
from choreo.core.errors import SettingsError, StorageError
from choreo.core.events import Envelope
from choreo.ports.inbox import Begin, Begun, Hold, Outcome, RunMark
from choreo.ports.log import Work
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, event
from choreo.testing.conformance.inbox import outcome
from tests.adapters.redis.conftest import LINGER_MS
from tests.support.redis_server import OwnRedis

CHARGE = Begin("t-1", "charge", "r-1", "r-1")
Opener = Callable[..., RedisStores]


@pytest.fixture
async def opened(own_redis: OwnRedis, beside: MemoryHome, clock: VirtualClock) -> AsyncIterator[Opener]:
    """Opens stores on a server of the test's own, each as a process of its own would."""
    several: list[RedisStores] = []

    def open_stores(timeout_s: float = 2.0) -> RedisStores:
        stores = RedisStores(own_redis.url, beside.log, clock, topics=[TOPIC], linger_ms=LINGER_MS, timeout_s=timeout_s)
        several.append(stores)
        return stores

    yield open_stores
    for stores in several:
        await stores.close()


async def worked(home: MemoryHome, service: str) -> None:
    """Let the service have committed something."""
    await home.log.create(TOPIC, 1)
    await home.log.append(TOPIC, [event("e-1")])
    member = await home.log.member(TOPIC, service, "a")
    await member.poll(1, 0)
    await member.commit(Work(done={0: 1}))


async def certain(stores: RedisStores, trigger: str, certain_if: int) -> bool:
    """Whether what is recorded now of this trigger is certain."""
    (published,) = await stores.inbox("payment").record([outcome(trigger=trigger, certain_if=certain_if)])
    return published.certain


async def test_after_the_memory_is_lost_nothing_is_certain(stores: RedisStores) -> None:
    """Not what had begun before, nor what begins after: an attempt that nobody remembers may have begun."""
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    await stores.server.ask("FLUSHALL")
    assert not await certain(stores, "t-1", 1), "begun before"
    assert await inbox.begin([Begin("t-2", "charge", "r-2")]) == [Begun(1)]
    assert not await certain(stores, "t-2", 1), "begun for the second time, as far as anybody knows"
    assert not await certain(stores, "t-3", 0), "skipped, after an attempt that nobody remembers"
    assert not (await inbox.recorded([("t-3", "charge")]))["t-3", "charge"][0].certain


async def test_another_process_learns_that_memory_was_lost(opened: Opener) -> None:
    """From what the first to notice has written."""
    first, second = opened(), opened()
    await first.inbox("payment").begin([CHARGE])
    await first.server.ask("FLUSHALL")
    await first.inbox("payment").begin([CHARGE])
    assert not await certain(second, "t-1", 1)


async def test_a_service_that_has_worked_and_finds_no_memory_has_lost_it(opened: Opener, beside: MemoryHome) -> None:
    """Its log knows that it had one; a service that never worked begins with an empty memory that is whole."""
    await worked(beside, "payment")
    stores = opened()
    await stores.inbox("payment").begin([CHARGE])
    assert not await certain(stores, "t-1", 1)
    await stores.inbox("shipping").begin([CHARGE])
    (published,) = await stores.inbox("shipping").record([outcome(certain_if=1)])
    assert published.certain


async def test_doubt_ends_when_all_that_was_under_way_is_over(stores: RedisStores, clock: VirtualClock) -> None:
    """As long after the loss as an ended run lingers."""
    await stores.inbox("payment").begin([CHARGE])
    await stores.server.ask("FLUSHALL")
    await stores.inbox("payment").begin([CHARGE])
    await clock.advance(LINGER_MS / 1_000 - 1)
    assert not await certain(stores, "t-2", 0)
    await clock.advance(1)
    assert await certain(stores, "t-3", 0)


async def test_entries_of_ended_runs_expire(stores: RedisStores) -> None:
    """After linger, by themselves; what is written late takes the time that is left. Open runs stay."""
    inbox, ttl = stores.inbox("payment"), lambda name: stores.server.ask("PTTL", f"choreo:inbox:payment:{name}")
    await inbox.begin([CHARGE, Begin("t-2", "charge", "r-2", "r-2")])
    await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(turned=True)})
    await inbox.record([outcome()])
    await inbox.begin([Begin("t-3", "tell", "r-1"), Begin("t-4", "tell", "")])
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
    await inbox.begin([Begin(f"t-{n}", "charge", f"r-{n}", f"r-{n}") for n in range(1_200)])
    await inbox.mark({f"r-{n}": RunMark(ended=True) for n in range(1_200)})
    await clock.advance(1)
    assert await inbox.forget(clock.now_ms()) == 1_200
    assert await stores.server.ask("KEYS", "choreo:inbox:*") == [b"choreo:inbox:payment:lost"]


async def test_a_batch_is_one_round_trip(stores: RedisStores) -> None:
    """However many attempts and outcomes it has."""
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    await inbox.record([outcome()])
    await stores.server.ask("CONFIG", "RESETSTAT")
    await inbox.begin([Begin(f"t-{n}", "charge", f"r-{n}", f"r-{n}") for n in range(2, 502)])
    await inbox.record([outcome(trigger=f"t-{n}") for n in range(2, 502)])
    stats = await stores.server.ask("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in stats


async def test_two_outcomes_of_one_attempt_in_a_batch(stores: RedisStores) -> None:
    """The first stands, as it does between batches."""
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    both = [outcome(certain_if=1), outcome("choreo.StepFailed"), outcome("PaymentCharged", success=True)]
    published = await inbox.record(both)
    assert [(e.type, e.certain) for e in published] == [("PaymentDeclined", True), ("PaymentCharged", False)]
    assert [e.type for e in (await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]] == ["PaymentDeclined"]


async def test_names_may_hold_anything(stores: RedisStores) -> None:
    """Foreign producers choose their ids, and payloads are bytes."""
    inbox, odd = stores.inbox("payment"), "a:b\u0000c é\n*"
    full = Envelope(odd, "PaymentCharged", "o-1", TOPIC, odd, data=bytes(range(256)))
    assert await inbox.begin([Begin(odd, "charge", odd, odd)]) == [Begun(1)]
    assert await inbox.begin([Begin("other", "charge", odd, odd)]) == [Begun(0, slot_holder=odd)]
    await inbox.record([Outcome(odd, "charge", odd, [full], success=True)])
    assert await inbox.recorded([(odd, "charge")]) == {(odd, "charge"): (full,)}
    await inbox.mark({odd: RunMark(turned=True)})
    assert await inbox.marks([odd]) == {odd: RunMark(turned=True)}


async def test_a_server_that_is_away_is_said_and_found_again(own_redis: OwnRedis, opened: Opener) -> None:
    """Every call says what to do; when it is back the same inbox goes on, and nothing was forgotten."""
    inbox = opened().inbox("payment")
    await inbox.begin([CHARGE])
    await inbox.mark({"r-1": RunMark(turned=True)})
    own_redis.stop()
    for _ in range(2):
        with pytest.raises(StorageError, match="Start it, or correct CHOREO_REDIS"):
            await inbox.begin([CHARGE])
    for call in (inbox.record([outcome()]), inbox.marks(["r-1"]), inbox.recorded([("t-1", "charge")])):
        with pytest.raises(StorageError, match=f"Redis at 127.0.0.1:{own_redis.port}"):
            await call
    own_redis.start()
    assert await inbox.marks(["r-1"]) == {"r-1": RunMark(turned=True)}
    assert await inbox.begin([CHARGE]) == [Begun(2)]
    assert await inbox.record([outcome()])


async def test_a_call_whose_answer_was_lost_counts_once(own_redis: OwnRedis, opened: Opener) -> None:
    """A server that hangs does later what it was sent: what is begun again is that same attempt."""
    inbox = opened(timeout_s=0.2).inbox("payment")
    await inbox.marks([])
    await inbox.begin([Begin("t-0", "charge", "r-0")])
    own_redis.freeze()
    for _ in range(3):
        with pytest.raises(StorageError, match="See what keeps it busy"):
            await inbox.begin([CHARGE])
    own_redis.thaw()
    assert await inbox.begin([CHARGE]) == [Begun(1)]
    assert await inbox.begin([CHARGE]) == [Begun(2)]


async def test_holds_that_lapsed_while_the_server_was_away_are_respected(
    own_redis: OwnRedis, opened: Opener, clock: VirtualClock
) -> None:
    """Their processes could not renew them: those that live have the time of one lease to say so."""
    holder, heir = opened().inbox("payment"), opened(timeout_s=0.3).inbox("payment")
    short, hold = Hold("a", 1), Hold("b", 10_000)
    await holder.begin([CHARGE, Begin("t-2", "charge", "r-2")], short)
    own_redis.stop()
    with pytest.raises(StorageError):
        await heir.begin([CHARGE], hold)
    own_redis.start()
    (held,) = await heir.begin([CHARGE], hold)
    assert held == Begun(0, held_ms=10_000)
    await holder.renew([("t-1", "charge")], Hold("a", 60_000))
    await clock.advance(10)
    living, dead = await heir.begin([CHARGE, Begin("t-2", "charge", "r-2")], hold)
    assert living.held_ms > 10_000
    assert dead == Begun(2)


async def test_a_server_that_may_drop_keys_is_not_used(own_redis: OwnRedis, opened: Opener) -> None:
    """Until it is set right: work is held meanwhile."""
    own_redis.stop()
    own_redis.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    stores = opened()
    with pytest.raises(StorageError, match="Set maxmemory-policy to noeviction"):
        await stores.inbox("payment").begin([CHARGE])
    own_redis.stop()
    own_redis.start("--maxmemory", "100mb")
    assert await stores.inbox("payment").begin([CHARGE]) == [Begun(1)]


async def test_an_error_names_the_server_without_its_password(own_redis: OwnRedis, beside: MemoryHome) -> None:
    """Logs are read by many."""
    url = own_redis.url.replace("redis://", "redis://teller:s3cret@")
    stores = RedisStores(url, beside.log, VirtualClock(), topics=[TOPIC], linger_ms=LINGER_MS)
    with pytest.raises(StorageError, match="Correct the user and password") as caught:
        await stores.inbox("payment").begin([CHARGE])
    assert "s3cret" not in str(caught.value)
    await stores.close()


def test_what_is_no_address_is_refused(beside: MemoryHome) -> None:
    """With what one looks like."""
    with pytest.raises(SettingsError, match="redis://host:6379/0"):
        RedisStores("localhost:6379", beside.log, VirtualClock(), topics=[], linger_ms=LINGER_MS)
