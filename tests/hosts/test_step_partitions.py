"""A step host among others, restarted, stopped and fenced: nothing is lost, nothing recorded is done twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from choreo import Service, StepContext
from choreo.core import facts, ids
from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope
from choreo.hosts.runners.port import Attempt
from choreo.hosts.runners.runners import ThreadedRunners
from choreo.ports.inbox import AttemptRequest, Outcome
from choreo.testing.faults import Fault
from tests.hosts.harness import (
    Charged,
    Confirmed,
    Declined,
    Harness,
    Placed,
    both_backends,
    charged,
    payment,
    plain_payment,
    running_harness,
)

HOLD_MS = 5_000


class Gate:
    """A plain handler that waits for the test, and notes the keys of its calls."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls: list[str] = []
        self.returned: list[str] = []

    def __call__(self, event: Placed, _: StepContext) -> Any:
        """Handle an attempt."""
        self.calls.append(event.order_id)
        self.open.wait()
        self.returned.append(event.order_id)
        return Charged(order_id=event.order_id)


def outcome_of(harness: Harness, placed: Envelope, *, step: str = "payment.charge") -> Envelope:
    """Return the outcome that a host has published before it died."""
    id_ = ids.outcome(placed.id, step)
    return harness.event(Charged(order_id=placed.key), id=id_, run=placed.run, step=step, causation=placed.id)


async def test_what_the_log_says_is_done_is_not_done_again() -> None:
    """The log is the first inbox: outcomes from the committed position on are read before anything is worked."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with running_harness(payment(charge), started=False) as harness:
        done, open_ = harness.event(Placed(order_id="o-1")), harness.event(Placed(order_id="o-2"))
        await harness.publish(done, open_, outcome_of(harness, done))
        harness.host()
        await harness.published("Charged", 2)
        await harness.caught_up()
    assert calls == ["o-2"]


@both_backends
async def test_of_an_outcome_that_was_cut_short_the_rest_is_said(backend: str) -> None:
    """A crash between two events of one outcome: the inbox has them all, the log the first."""
    mail, calls = Service("mail"), []

    @mail.step(on=Placed, emits=[Charged, Confirmed])
    async def both(event: Placed, ctx: StepContext) -> list[Charged | Confirmed]:
        calls.append(event)
        return []

    async with running_harness(mail, started=False, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        first = outcome_of(harness, placed, step="mail.both")
        second = harness.event(Confirmed(order_id="o-1"), id=ids.outcome(placed.id, "mail.both", 1), run=placed.run)
        recorded = Outcome(placed.id, "mail.both", placed.run, [first, second], success=True)
        await harness.backend.inbox("mail").record([recorded])
        await harness.publish(placed, first)
        harness.host()
        assert await harness.one("Confirmed") == second
        await harness.caught_up()
        assert len(await harness.log()) == 3
    assert calls == []


@both_backends
async def test_a_step_that_was_put_off_waits_for_its_call_after_a_restart(backend: str) -> None:
    """StepAttemptFailed stands behind the trigger: reading the trigger again starts nothing."""
    async with running_harness(payment(), started=False, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        put_off = harness.fact(placed, facts.STEP_ATTEMPT_FAILED, step="payment.charge", trigger=placed.id, attempt=1)
        await harness.publish(placed, put_off)
        harness.host()
        await harness.caught_up()
        assert [record.event.type for record in await harness.log()] == ["Placed", facts.STEP_ATTEMPT_FAILED]
        await harness.publish(harness.retry_due(put_off, outcome=0))
        assert (await harness.one("Charged")).attempt == 2


async def test_a_recorded_outcome_is_said_again_and_not_made_again() -> None:
    """The process died between recording and publishing."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(ctx)
        return await charged(event, ctx)

    async with running_harness(payment(charge), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        outcome = outcome_of(harness, placed)
        inbox = harness.backend.inbox("payment")
        await inbox.record([Outcome(placed.id, "payment.charge", placed.run, [outcome], success=True)])
        await harness.publish(placed)
        harness.host()
        assert await harness.one("Charged") == outcome
    assert calls == []


@both_backends
async def test_a_handler_whose_process_died_runs_again_under_the_same_key_and_nothing_is_certain(backend: str) -> None:
    """The inbox counted an attempt that has left no word."""
    seen: list[StepContext] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx)
        return Declined(order_id=event.order_id)

    async with running_harness(payment(charge), started=False, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.backend.inbox("payment").begin(
            [AttemptRequest(placed.id, "payment.charge", placed.run, placed.run)]
        )
        await harness.publish(placed)
        harness.host()
        assert not (await harness.one("Declined")).certain
    assert seen[0].attempt == 2
    assert seen[0].idempotency_key == ids.idempotency("step", placed.run, "payment.charge")


@both_backends
async def test_one_slow_key_delays_no_other(backend: str) -> None:
    """Order is per key and step; the position waits for the slow one."""
    gate = Gate()

    def charge(event: Placed, ctx: StepContext) -> Any:
        return gate(event, ctx) if event.order_id == "slow" else Charged(order_id=event.order_id)

    async with running_harness(plain_payment(charge), backend=backend) as harness:
        await harness.publish(Placed(order_id="slow"), *(Placed(order_id=f"o-{n}") for n in range(30)))
        await harness.published("Charged", 30)
        assert (await harness.backend.log.committed("order", "payment"))[0] == 0
        gate.open.set()
        await harness.published("Charged", 31)
        await harness.caught_up()


async def test_events_of_one_key_and_step_are_handled_in_order() -> None:
    """One after the other, each when the outcome of the one before is committed."""
    gate = Gate()
    async with running_harness(plain_payment(gate)) as harness:
        runs = [harness.event(Placed(order_id="o-1", number=n)) for n in range(5)]
        await harness.publish(*runs)
        await harness.counted("attempts_in_flight", 1)
        await harness.until(lambda: bool(gate.calls))
        assert len(gate.calls) == 1
        gate.open.set()
        assert [event.run for event in await harness.published("Charged", 5)] == [run.id for run in runs]


@both_backends
async def test_two_hosts_share_the_partitions_and_each_trigger_is_handled_once(backend: str) -> None:
    """A second host takes its share; the first gives it up."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with running_harness(payment(charge), partitions=4, backend=backend) as harness:
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(40)))
        await harness.published("Charged", 10)
        harness.host("two")
        await harness.publish(*(Placed(order_id=f"p-{n}") for n in range(40)))
        await harness.caught_up()  # time passes: an attempt that ran while its partition moved has a lease
        await harness.published("Charged", 80)
    assert sorted(calls) == sorted({*calls})
    assert len(calls) == 80


async def test_what_runs_when_its_partition_is_lost_is_recorded_for_the_new_owner() -> None:
    """Its lease ran out while a handler was at work: the handler is not called a second time after it has answered."""
    gate = Gate()
    async with running_harness(plain_payment(gate)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: bool(gate.calls))
        await harness.backend.revoke("payment")
        gate.open.set()
        outcome = await harness.one("Charged")
        assert outcome.key == "o-1"
        await harness.caught_up()
        assert set(await harness.published("Charged")) == {outcome}
    assert gate.calls == ["o-1"]


async def test_a_commit_that_is_refused_is_made_again_once_a_poll_has_said_what_is_lost() -> None:
    """Nothing was lost after all: the outcome is committed, and its handler is not called again."""
    calls = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with running_harness(payment(charge), started=False) as harness:
        refusals = _refuse(harness, 2)
        harness.host()
        await harness.publish(Placed(order_id="o-1"))
        while len(await harness.log()) < 2:
            await harness.clock.advance(0.25)
        await harness.caught_up()
    assert calls == ["o-1"]
    assert refusals.is_over


async def test_a_refused_commit_does_not_wait_for_an_idle_poll() -> None:
    """It is made again soon, also where no poll reports a revoked partition: an inbox has lost its gates."""
    async with running_harness(payment(), started=False) as harness:
        refusals = _refuse(harness, 2)
        harness.host(idle_s=3_600.0)
        await harness.publish(Placed(order_id="o-1"))
        for _ in range(8):
            await harness.clock.advance(0.25)
        assert refusals.is_over
        assert [event.key for event in await harness.published("Charged")] == ["o-1"]


async def test_a_member_that_is_always_refused_comes_back_as_a_new_one() -> None:
    """It drops everything, and finds recorded what it had done."""
    async with running_harness(payment(), started=False) as harness:
        _refuse(harness, 3)
        harness.host()
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        while len(await harness.log()) < 2:
            await harness.clock.advance(0.25)
        await harness.caught_up()
        assert {(event.causation, event.attempt) for event in await harness.published("Charged")} == {(placed.id, 1)}


def _refuse(harness: Harness, times: int) -> Fault:
    """Refuse the next commits of outcomes."""
    error = LeaseLostError("partition 0 is another's", where="order")
    return harness.faults.fail("consumer.commit", error, times=times, when=lambda work: work.outcomes)


async def test_a_stop_lets_what_runs_finish_and_commits_it() -> None:
    """Work that has not begun is left to the next host."""
    gate = Gate()
    async with running_harness(plain_payment(gate), started=False) as harness:
        host = harness.host(concurrency=1)
        await harness.publish(Placed(order_id="o-1"), Placed(order_id="o-2"))
        await harness.until(lambda: bool(gate.calls))
        stopping = asyncio.create_task(host.stop())
        gate.open.set()
        await stopping
        assert [event.key for event in await harness.published("Charged")] == ["o-1"]
        assert await harness.backend.log.committed("order", "payment") == {0: 1}
        harness.host("two")
        assert [event.key for event in await harness.published("Charged", 2)] == ["o-1", "o-2"]


class LateRunners(ThreadedRunners):
    """Runners that call handlers two rounds of the loop later."""

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Start them then."""
        loop, start = asyncio.get_running_loop(), super().start
        loop.call_soon(loop.call_soon, start, attempts)


async def test_a_stop_finishes_what_was_counted_as_begun_and_not_called_yet() -> None:
    """The next host would count it again: its outcome could not be certain any more."""
    work = Gate()
    work.open.set()
    async with running_harness(plain_payment(work), started=False) as harness:
        host = harness.host(runners=LateRunners)
        stopping: list[asyncio.Task[None]] = []

        async def stop() -> None:
            stopping.append(asyncio.create_task(host.stop()))
            await asyncio.sleep(0)

        harness.faults.act("inbox.begin", stop)
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: bool(stopping))
        await asyncio.gather(*stopping)
        assert [record.event.type for record in await harness.log()] == ["Placed", "Charged"]


async def test_a_stop_gives_up_what_does_not_finish() -> None:
    """The bound passes, the host leaves; once its hold has lapsed the next one runs it again under the same key."""
    gate = Gate()
    async with running_harness(plain_payment(gate), started=False) as harness:
        host = harness.host(stop_s=1, lease_s=HOLD_MS / 1_000)
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: bool(gate.calls))
        began_ms = harness.clock.now_ms()
        stopping = asyncio.create_task(host.stop())
        while not stopping.done():
            await harness.clock.advance(1)
        assert await harness.backend.log.committed("order", "payment") == {0: 0}
        harness.host("two")
        while len(gate.calls) < 2:
            assert harness.clock.now_ms() < began_ms + HOLD_MS + 5_000
            await harness.clock.advance(0.25)
        assert harness.clock.now_ms() >= began_ms + HOLD_MS
        gate.open.set()
        assert (await harness.one("Charged")).attempt == 2


async def test_reading_pauses_when_the_hands_are_full() -> None:
    """Back-pressure: the host takes no more than its bound, and the consumer stays in its group."""
    gate = Gate()
    async with running_harness(plain_payment(gate), started=False) as harness:
        host = harness.host(concurrency=2, poll_size=5, queued_max=10)
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(100)))
        await harness.until(lambda: host.is_reading_paused)
        for _ in range(20):
            await harness.clock.advance(0.25)
        assert host.queued <= 10 + 5  # what the poll under way may still bring
        gate.open.set()
        await harness.published("Charged", 100)
        await harness.caught_up()
