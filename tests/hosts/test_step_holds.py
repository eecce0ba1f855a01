"""A handler that runs while its partition moves: nobody else begins it as long as its process lives."""

from __future__ import annotations

import threading
from typing import Any

from choreo import Retry, StepContext
from choreo.core import facts
from choreo.core.errors import StorageError
from tests.hosts.stage import Charged, Declined, Placed, Stage, both_homes, plain_payment, staged

FAR_OFF = Retry(initial="1h", backoff=1, max_interval="1h", max_attempts=3)
HOLD_S = 3.0
"""What hosts are given where nothing else is said."""


class Work:
    """A plain handler that takes as long as the test lets it; each call is an attempt."""

    def __init__(self, *, declines: bool = False) -> None:
        self.calls: list[StepContext] = []
        self.may_end = threading.Event()
        self._declines = declines

    def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """An attempt."""
        self.calls.append(ctx)
        self.may_end.wait()
        return (Declined if self._declines else Charged)(order_id=event.order_id)


async def hand_over(stage: Stage, work: Work, *, partitions: int = 4) -> str:
    """A key whose handler runs in host one, and whose partition host two has taken since."""
    keys = [f"o-{number}" for number in range(4 * partitions)]
    await stage.publish(*(Placed(order_id=key) for key in keys))
    await stage.until(lambda: len(work.calls) == len(keys))
    stage.host("two")
    while not (moved := stage.hosts[1][0]._desk.progress):
        await stage.clock.advance(0.25)
    records = [record for record in await stage.log() if record.partition in moved]
    assert records, "no key lies in a partition that moved"
    await stage.until(lambda: bool(stage.hosts[1][0].counters.read().get("held")))
    return records[0].event.key


@both_homes
async def test_a_handler_of_ten_minutes_runs_once_although_its_partition_moves(home: str) -> None:
    """The new owner waits for its outcome; it is published once, and declared failures are certain as ever."""
    work = Work(declines=True)
    async with staged(plain_payment(work, timeout="1h"), partitions=4, home=home) as stage:
        await hand_over(stage, work)
        begun = len(work.calls)
        for _ in range(60):
            await stage.clock.advance(10)
        assert len(work.calls) == begun
        work.may_end.set()
        declined = await stage.said("Declined", begun)
        await stage.caught_up()
        assert len(work.calls) == begun
        assert {event.attempt for event in declined} == {1}
        assert all(event.certain for event in declined)


@both_homes
async def test_what_a_dead_process_held_is_run_again_when_its_hold_has_lapsed(home: str) -> None:
    """Under the same key, as the second attempt; not before, for nobody knows that it is dead."""
    work = Work()
    async with staged(plain_payment(work), started=False, home=home) as stage:
        await stage.publish(Placed(order_id="o-1"))
        dead = stage.host("dead")
        await stage.until(lambda: bool(work.calls))
        began_ms = stage.clock.now_ms()
        await kill(stage)
        stage.host("heir")
        while len(work.calls) < 2:
            assert stage.clock.now_ms() < began_ms + 3_000 * HOLD_S
            await stage.clock.advance(0.25)
        assert stage.clock.now_ms() >= began_ms + 1_000 * HOLD_S
        assert dead._desk.running.total() == 1, "it was at work when it died"
        work.may_end.set()
        assert (await stage.one("Charged")).attempt == 2
    assert [ctx.attempt for ctx in work.calls] == [1, 2]
    assert len({ctx.idempotency_key for ctx in work.calls}) == 1


async def kill(stage: Stage) -> None:
    """The first host is gone from one moment to the next."""
    host, task = stage.hosts.pop(0)
    task.cancel()
    await host.stop()


@both_homes
async def test_a_partition_that_comes_back_finds_its_handler_still_running(home: str) -> None:
    """The same process does not begin it a second time either."""
    work = Work()
    async with staged(plain_payment(work, timeout="1h"), partitions=4, home=home) as stage:
        key = await hand_over(stage, work)
        second, task = stage.hosts.pop()
        await second.stop()
        await task
        first = stage.hosts[0][0]
        while len(first._desk.progress) < 4:
            await stage.clock.advance(0.25)
        await stage.clock.advance(4 * HOLD_S)
        begun = len(work.calls)
        work.may_end.set()
        await stage.caught_up()
        charged = await stage.said("Charged")  # some twice, by the runner and by who found what it had recorded
    assert len(work.calls) == begun
    assert key in {event.key for event in charged}


async def test_an_attempt_that_failed_is_not_held() -> None:
    """Its next attempt was to be far off; whoever has the partition then may begin it at once."""
    calls = []

    def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(ctx.attempt)
        raise ConnectionError

    async with staged(plain_payment(charge, retry=FAR_OFF), started=False) as stage:
        first = stage.host("one", hold_s=86_400)
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        failed = await stage.one(facts.STEP_ATTEMPT_FAILED)
        await stage.caught_up()
        await first.stop()
        stage.host("two")
        await stage.publish(stage.retry_due(failed, outcome=0))
        await stage.said(facts.STEP_ATTEMPT_FAILED, 2)
    assert calls == [1, 2]


async def test_a_renewal_that_fails_is_made_again() -> None:
    """Storage that is away for less than a lease costs no hold."""
    work = Work()
    async with staged(plain_payment(work), partitions=4) as stage:
        inbox, failures = stage.home.inbox("payment"), 1
        real_renew = inbox.renew

        async def renew(keys: Any, hold: Any) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise StorageError("away", where="here", remedy="wait")
            await real_renew(keys, hold)

        inbox.renew = renew
        await hand_over(stage, work)
        begun = len(work.calls)
        await stage.clock.advance(4 * HOLD_S)
        assert (len(work.calls), failures) == (begun, 0)
        work.may_end.set()
        await stage.said("Charged", begun)
