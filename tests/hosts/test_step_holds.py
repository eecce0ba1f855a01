"""A handler that runs while its partition moves: nobody else begins it as long as its process lives."""

from __future__ import annotations

import threading
from typing import Any

from choreo import Retry, StepContext
from choreo.core import facts
from tests.hosts.harness import Charged, Declined, Harness, Placed, both_backends, plain_payment, running_harness

FAR_OFF = Retry(initial="1h", backoff=1, max_interval="1h", max_attempts=3)
HOLD_S = 3.0
"""The hosts' default."""


class CommitBatch:
    """A plain handler that takes as long as the test lets it; each call is an attempt."""

    def __init__(self, *, declines: bool = False) -> None:
        self.calls: list[StepContext] = []
        self.may_end = threading.Event()
        self._declines = declines

    def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """Handle an attempt."""
        self.calls.append(ctx)
        self.may_end.wait()
        return (Declined if self._declines else Charged)(order_id=event.order_id)


async def hand_over(harness: Harness, work: CommitBatch, *, partitions: int = 4) -> str:
    """Return a key whose handler runs in host one, and whose partition host two has taken since."""
    keys = [f"o-{number}" for number in range(4 * partitions)]
    await harness.publish(*(Placed(order_id=key) for key in keys))
    await harness.until(lambda: len(work.calls) == len(keys))
    harness.host("two")
    while not (moved := harness.hosts[1][0].partitions):
        await harness.clock.advance(0.25)
    records = [record for record in await harness.log() if record.partition in moved]
    assert records, "no key lies in a partition that moved"
    await harness.until(lambda: bool(harness.hosts[1][0].metrics.read().get("attempts_held")))
    return records[0].event.key


@both_backends
async def test_a_handler_of_ten_minutes_runs_once_although_its_partition_moves(backend: str) -> None:
    """The new owner waits for its outcome; it is published once, and declared failures are certain as ever."""
    work = CommitBatch(declines=True)
    async with running_harness(plain_payment(work, timeout="1h"), partitions=4, backend=backend) as harness:
        await hand_over(harness, work)
        begun = len(work.calls)
        for _ in range(60):
            await harness.clock.advance(10)
        assert len(work.calls) == begun
        work.may_end.set()
        declined = await harness.published("Declined", begun)
        await harness.caught_up()
        assert len(work.calls) == begun
        assert {event.attempt for event in declined} == {1}
        assert all(event.certain for event in declined)


@both_backends
async def test_what_a_dead_process_held_is_run_again_when_its_hold_has_lapsed(backend: str) -> None:
    """Under the same key, as the second attempt; not before, for nobody knows that it is dead."""
    work = CommitBatch()
    async with running_harness(plain_payment(work), started=False, backend=backend) as harness:
        await harness.publish(Placed(order_id="o-1"))
        dead = harness.host("dead")
        await harness.until(lambda: bool(work.calls))
        began_ms = harness.clock.now_ms()
        assert dead.metrics.read()["attempts_in_flight"] == 1, "it is at work when it dies"
        await kill(harness)
        harness.host("heir")
        while len(work.calls) < 2:
            assert harness.clock.now_ms() < began_ms + 3_000 * HOLD_S
            await harness.clock.advance(0.25)
        assert harness.clock.now_ms() >= began_ms + 1_000 * HOLD_S
        work.may_end.set()
        assert (await harness.one("Charged")).attempt == 2
    assert [ctx.attempt for ctx in work.calls] == [1, 2]
    assert len({ctx.idempotency_key for ctx in work.calls}) == 1


async def kill(harness: Harness) -> None:
    """Kill the first host from one moment to the next."""
    host, task = harness.hosts.pop(0)
    task.cancel()
    await host.stop()


@both_backends
async def test_a_partition_that_comes_back_finds_its_handler_still_running(backend: str) -> None:
    """The same process does not begin it a second time either."""
    work = CommitBatch()
    async with running_harness(plain_payment(work, timeout="1h"), partitions=4, backend=backend) as harness:
        key = await hand_over(harness, work)
        second, task = harness.hosts.pop()
        await second.stop()
        await task
        first = harness.hosts[0][0]
        while len(first.partitions) < 4:
            await harness.clock.advance(0.25)
        await harness.clock.advance(4 * HOLD_S)
        begun = len(work.calls)
        work.may_end.set()
        await harness.caught_up()
        charged = await harness.published("Charged")  # some twice, by the runner and by who found what it had recorded
    assert len(work.calls) == begun
    assert key in {event.key for event in charged}


async def test_an_attempt_that_failed_is_not_held() -> None:
    """Its next attempt was to be far off; the next owner of the partition may begin it at once."""
    calls = []

    def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(ctx.attempt)
        raise ConnectionError

    async with running_harness(plain_payment(charge, retry=FAR_OFF), started=False) as harness:
        first = harness.host("one", lease_s=86_400)
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        await harness.caught_up()
        await first.stop()
        harness.host("two")
        await harness.publish(harness.retry_due(failed, outcome=0))
        await harness.published(facts.STEP_ATTEMPT_FAILED, 2)
    assert calls == [1, 2]


async def test_a_renewal_that_fails_is_made_again() -> None:
    """Storage that is away for less than a lease costs no hold."""
    work = CommitBatch()
    async with running_harness(plain_payment(work), partitions=4) as harness:
        away = harness.faults.fail("inbox.renew")
        await hand_over(harness, work)
        begun = len(work.calls)
        await harness.clock.advance(4 * HOLD_S)
        assert away.is_over
        assert len(work.calls) == begun
        work.may_end.set()
        await harness.published("Charged", begun)
