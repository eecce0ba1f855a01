"""A step host among others, restarted, stopped and fenced: nothing is lost, nothing recorded is done twice."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from choreo import Service, StepContext
from choreo.adapters.memory.groups import MemoryGroups
from choreo.adapters.refusals import lease_lost
from choreo.core import facts, ids
from choreo.core.events import Envelope
from choreo.ports.inbox import Begin, Outcome
from tests.hosts.stage import (
    Charged,
    Confirmed,
    Declined,
    Placed,
    Stage,
    both_homes,
    charged,
    payment,
    plain_payment,
    staged,
)

HOLD_MS = 5_000


class Gate:
    """A plain handler that waits to be let through, and says which keys came."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls: list[str] = []
        self.returned: list[str] = []

    def __call__(self, event: Placed, _: StepContext) -> Any:
        """An attempt."""
        self.calls.append(event.order_id)
        self.open.wait()
        self.returned.append(event.order_id)
        return Charged(order_id=event.order_id)


def outcome_of(stage: Stage, placed: Envelope, *, step: str = "payment.charge") -> Envelope:
    """The outcome that a host has said before it died."""
    id_ = ids.outcome(placed.id, step)
    return stage.event(Charged(order_id=placed.key), id=id_, run=placed.run, step=step, causation=placed.id)


async def test_what_the_log_says_is_done_is_not_done_again() -> None:
    """The log is the first inbox: outcomes from the committed position on are read before anything is worked."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with staged(payment(charge), started=False) as stage:
        done, open_ = stage.event(Placed(order_id="o-1")), stage.event(Placed(order_id="o-2"))
        await stage.publish(done, open_, outcome_of(stage, done))
        stage.host()
        await stage.said("Charged", 2)
        await stage.caught_up()
    assert calls == ["o-2"]


@both_homes
async def test_of_an_outcome_that_was_cut_short_the_rest_is_said(home: str) -> None:
    """A crash between two events of one outcome: the inbox has them all, the log the first."""
    mail, calls = Service("mail"), []

    @mail.step(on=Placed, emits=[Charged, Confirmed])
    async def both(event: Placed, ctx: StepContext) -> list[Charged | Confirmed]:
        calls.append(event)
        return []

    async with staged(mail, started=False, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        first = outcome_of(stage, placed, step="mail.both")
        second = stage.event(Confirmed(order_id="o-1"), id=ids.outcome(placed.id, "mail.both", 1), run=placed.run)
        recorded = Outcome(placed.id, "mail.both", placed.run, [first, second], success=True)
        await stage.home.inbox("mail").record([recorded])
        await stage.publish(placed, first)
        stage.host()
        assert await stage.one("Confirmed") == second
        await stage.caught_up()
        assert len(await stage.log()) == 3
    assert calls == []


@both_homes
async def test_a_step_that_was_put_off_waits_for_its_call_after_a_restart(home: str) -> None:
    """StepAttemptFailed stands behind the trigger: reading the trigger again starts nothing."""
    async with staged(payment(), started=False, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        put_off = stage.fact(placed, facts.STEP_ATTEMPT_FAILED, step="payment.charge", trigger=placed.id, attempt=1)
        await stage.publish(placed, put_off)
        stage.host()
        await stage.caught_up()
        assert [record.event.type for record in await stage.log()] == ["Placed", facts.STEP_ATTEMPT_FAILED]
        await stage.publish(stage.retry_due(put_off, outcome=0))
        assert (await stage.one("Charged")).attempt == 2


async def test_a_recorded_outcome_is_said_again_and_not_made_again() -> None:
    """The process died between recording and publishing."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(ctx)
        return await charged(event, ctx)

    async with staged(payment(charge), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        outcome = outcome_of(stage, placed)
        inbox = stage.home.inbox("payment")
        await inbox.record([Outcome(placed.id, "payment.charge", placed.run, [outcome], success=True)])
        await stage.publish(placed)
        stage.host()
        assert await stage.one("Charged") == outcome
    assert calls == []


@both_homes
async def test_a_handler_whose_process_died_runs_again_under_the_same_key_and_nothing_is_certain(home: str) -> None:
    """The inbox counted an attempt that has left no word."""
    seen: list[StepContext] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx)
        return Declined(order_id=event.order_id)

    async with staged(payment(charge), started=False, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.home.inbox("payment").begin([Begin(placed.id, "payment.charge", placed.run, placed.run)])
        await stage.publish(placed)
        stage.host()
        assert not (await stage.one("Declined")).certain
    assert seen[0].attempt == 2
    assert seen[0].idempotency_key == ids.idempotency("step", placed.run, "payment.charge")


@both_homes
async def test_one_slow_key_delays_no_other(home: str) -> None:
    """Order is per key and step; the position waits for the slow one."""
    gate = Gate()

    def charge(event: Placed, ctx: StepContext) -> Any:
        return gate(event, ctx) if event.order_id == "slow" else Charged(order_id=event.order_id)

    async with staged(plain_payment(charge), home=home) as stage:
        await stage.publish(Placed(order_id="slow"), *(Placed(order_id=f"o-{n}") for n in range(30)))
        await stage.said("Charged", 30)
        assert (await stage.home.log.committed("order", "payment"))[0] == 0
        gate.open.set()
        await stage.said("Charged", 31)
        await stage.caught_up()


async def test_events_of_one_key_and_step_are_handled_in_order() -> None:
    """One after the other, each when the outcome of the one before is committed."""
    gate = Gate()
    async with staged(plain_payment(gate)) as stage:
        runs = [stage.event(Placed(order_id="o-1", number=n)) for n in range(5)]
        await stage.publish(*runs)
        await stage.counted("in_flight", 1)
        await stage.until(lambda: bool(gate.calls))
        assert len(gate.calls) == 1
        gate.open.set()
        assert [event.run for event in await stage.said("Charged", 5)] == [run.id for run in runs]


@both_homes
async def test_two_hosts_share_the_partitions_and_each_trigger_is_handled_once(home: str) -> None:
    """A second host takes its share; the first gives it up."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with staged(payment(charge), partitions=4, home=home) as stage:
        await stage.publish(*(Placed(order_id=f"o-{n}") for n in range(40)))
        await stage.said("Charged", 10)
        stage.host("two")
        await stage.publish(*(Placed(order_id=f"p-{n}") for n in range(40)))
        await stage.said("Charged", 80)
        await stage.caught_up()
    assert sorted(calls) == sorted({*calls})
    assert len(calls) == 80


async def test_what_runs_when_its_partition_is_lost_is_recorded_for_the_new_owner() -> None:
    """Its lease ran out while a handler was at work: the handler is not called a second time after it has answered."""
    gate = Gate()
    async with staged(plain_payment(gate)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        await stage.until(lambda: bool(gate.calls))
        _take_away(stage.home._groups)
        gate.open.set()
        outcome = await stage.one("Charged")
        assert outcome.key == "o-1"
        await stage.caught_up()
        assert set(await stage.said("Charged")) == {outcome}
    assert gate.calls == ["o-1"]


async def test_a_commit_that_is_refused_is_made_again_once_a_poll_has_said_what_is_lost() -> None:
    """Nothing was lost after all: the outcome is committed, and its handler is not called again."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with staged(payment(charge), started=False) as stage:
        refusals = _refuse(stage.home._groups, 2)
        stage.host()
        await stage.publish(Placed(order_id="o-1"))
        while len(await stage.log()) < 2:
            await stage.clock.advance(0.25)
        await stage.caught_up()
    assert (calls, refusals) == (["o-1"], [])


async def test_a_member_that_is_always_refused_comes_back_as_a_new_one() -> None:
    """It drops everything, and finds recorded what it had done."""
    async with staged(payment(), started=False) as stage:
        _refuse(stage.home._groups, 3)
        stage.host()
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        while len(await stage.log()) < 2:
            await stage.clock.advance(0.25)
        await stage.caught_up()
        assert {(event.causation, event.attempt) for event in await stage.said("Charged")} == {(placed.id, 1)}


def _refuse(groups: MemoryGroups, times: int) -> list[int]:
    """Refuse the next commits of outcomes; returns what is left of them, live."""
    left, real_commit = [*range(times)], groups.commit

    async def commit(ticket: Any, epochs: Any, work: Any) -> Any:
        if work.outcomes and left:
            left.pop()
            raise lease_lost(ticket, [0])
        return await real_commit(ticket, epochs, work)

    groups.commit = commit  # type: ignore[method-assign]
    return left


def _take_away(groups: MemoryGroups) -> None:
    """As if another member had owned the partitions for a moment."""
    rows = groups._groups["order", "payment"]
    for partition, lease in rows.leases.items():
        rows.leases[partition] = lease._replace(owner="", epoch=groups._next_epoch())
    groups._topics.bell.ring_all()


async def test_a_stop_lets_what_runs_finish_and_commits_it() -> None:
    """What had not begun is left to the next host."""
    gate = Gate()
    async with staged(plain_payment(gate), started=False) as stage:
        host = stage.host(concurrency=1)
        await stage.publish(Placed(order_id="o-1"), Placed(order_id="o-2"))
        await stage.until(lambda: bool(gate.calls))
        stopping = asyncio.create_task(host.stop())
        gate.open.set()
        await stopping
        assert [event.key for event in await stage.said("Charged")] == ["o-1"]
        assert await stage.home.log.committed("order", "payment") == {0: 1}
        stage.host("two")
        assert [event.key for event in await stage.said("Charged", 2)] == ["o-1", "o-2"]


async def test_a_stop_finishes_what_was_counted_as_begun_and_not_called_yet() -> None:
    """The next host would count it again: its outcome could not be certain any more."""
    work = Gate()
    work.open.set()
    async with staged(plain_payment(work), started=False) as stage:
        host, inbox = stage.host(), stage.home.inbox("payment")
        begin = inbox.begin
        stopping: list[asyncio.Task[None]] = []

        async def begin_and_stop(*arguments: Any) -> Any:
            stopping.append(asyncio.create_task(host.stop()))
            await asyncio.sleep(0)
            return await begin(*arguments)

        inbox.begin = begin_and_stop  # type: ignore[method-assign]
        host._runners.start = lambda attempts, start=host._runners.start: asyncio.get_running_loop().call_soon(
            lambda: asyncio.get_running_loop().call_soon(start, attempts)
        )
        await stage.publish(Placed(order_id="o-1"))
        await stage.until(lambda: bool(stopping))
        await asyncio.gather(*stopping)
        assert [record.event.type for record in await stage.log()] == ["Placed", "Charged"]


async def test_a_stop_gives_up_what_does_not_finish() -> None:
    """The bound passes, the host leaves; once its hold has lapsed the next one runs it again under the same key."""
    gate = Gate()
    async with staged(plain_payment(gate), started=False) as stage:
        host = stage.host(stop_s=1, hold_s=HOLD_MS / 1_000)
        await stage.publish(Placed(order_id="o-1"))
        await stage.until(lambda: bool(gate.calls))
        began_ms = stage.clock.now_ms()
        stopping = asyncio.create_task(host.stop())
        while not stopping.done():
            await stage.clock.advance(1)
        assert await stage.home.log.committed("order", "payment") == {0: 0}
        stage.host("two")
        while len(gate.calls) < 2:
            assert stage.clock.now_ms() < began_ms + HOLD_MS + 5_000
            await stage.clock.advance(0.25)
        assert stage.clock.now_ms() >= began_ms + HOLD_MS
        gate.open.set()
        assert (await stage.one("Charged")).attempt == 2


async def test_reading_pauses_when_the_hands_are_full() -> None:
    """Back-pressure: no more is taken than can be kept in hand, and the member is still heard of."""
    gate = Gate()
    async with staged(plain_payment(gate), started=False) as stage:
        host = stage.host(concurrency=2, poll_size=5, in_hand_max=10)
        await stage.publish(*(Placed(order_id=f"o-{n}") for n in range(100)))
        await stage.until(lambda: host._desk.full)
        for _ in range(20):
            await stage.clock.advance(0.25)
        assert host._desk._in_hand.total() <= 10 + 5  # what the poll under way may still bring
        gate.open.set()
        await stage.said("Charged", 100)
        await stage.caught_up()
