"""The facts that a host has read about a run stop, hold or find its steps."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from choreo import Retry, Service, StepContext
from choreo.core import facts, ids
from choreo.ports.inbox import Outcome
from tests.hosts.harness import Charged, Confirmed, Harness, Placed, both_backends, payment, running_harness


class Counting:
    """A handler that counts its calls, and may be held up."""

    def __init__(self) -> None:
        self.calls: list[StepContext] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """Handle an attempt."""
        self.calls.append(ctx)
        return Charged(order_id=event.order_id)


def mail(calls: list[StepContext] | None = None) -> Service:
    """Return the service of `mail.confirm`, a step on its run's own event; its calls are noted."""
    service = Service("mail")

    @service.step(on=Charged, emits=Confirmed)
    async def confirm(event: Charged, ctx: StepContext) -> Confirmed:
        if calls is not None:
            calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    return service


async def types(harness: Harness) -> list[str]:
    """Return the types in the log, in order."""
    return [record.event.type for record in await harness.log()]


@both_backends
async def test_a_trigger_before_its_runs_turn_is_skipped_aloud_and_certainly(backend: str) -> None:
    """It was expected: StepSkipped settles that. No attempt had begun, so nothing is in doubt."""
    charge = Counting()
    async with running_harness(payment(charge), started=False, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED))
        harness.host()
        skipped = await harness.one(facts.STEP_SKIPPED)
        assert (skipped.causation, skipped.step, skipped.certain) == (placed.id, "payment.charge", True)
        assert skipped.reason == "its run is compensating or ended"
    assert charge.calls == []


async def test_a_trigger_after_its_runs_turn_is_skipped_in_silence() -> None:
    """It makes nothing expected, and nobody waits for a word."""
    async with running_harness(mail()) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        late = harness.event(Charged(order_id="o-1"), id="late", run=placed.run)
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED), late)
        await harness.caught_up()
        assert await types(harness) == ["Placed", facts.COMPENSATION_STARTED, "Charged"]


@both_backends
async def test_the_turn_is_remembered_by_the_next_host(backend: str) -> None:
    """The inbox keeps it beyond the process that read it."""
    async with running_harness(mail(), backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED))
        await harness.caught_up()
        await harness.stop()
        harness.host("two")
        await harness.publish(harness.event(Charged(order_id="o-1"), id="late", run=placed.run))
        await harness.caught_up()
        assert await types(harness) == ["Placed", facts.COMPENSATION_STARTED, "Charged"]


@both_backends
async def test_a_turn_is_where_it_was_read_first_also_for_the_next_host(backend: str) -> None:
    """A restarted host that reads a duplicate of CompensationStarted ahead judges triggers by the first of the two."""
    async with running_harness(mail(), backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        compensating = harness.fact(placed, facts.COMPENSATION_STARTED)
        await harness.publish(placed, compensating)
        await harness.caught_up()
        await harness.stop()
        await harness.publish(harness.event(Charged(order_id="o-1"), id="late", run=placed.run), compensating)
        harness.host("two")
        await harness.caught_up()
        assert await types(harness) == ["Placed", facts.COMPENSATION_STARTED, "Charged", facts.COMPENSATION_STARTED]


async def test_a_turn_astray_says_nothing_to_a_host_that_reads_ahead() -> None:
    """Its place in another partition would be compared with a trigger's in its own."""
    charge = Counting()
    async with running_harness(payment(charge), partitions=2, started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        ((_, partition, _), _) = await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED))
        topics = harness.backend.log.topics.of("order")
        stray = topics[partition].pop()
        topics[1 - partition].append(replace(stray, partition=1 - partition, offset=0))
        harness.host()
        await harness.caught_up()
    assert [context.run for context in charge.calls] == [placed.id]


async def test_a_terminated_run_starts_no_step() -> None:
    """An operator has ended it."""
    charge = Counting()
    async with running_harness(payment(charge), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.FLOW_TERMINATED))
        harness.host()
        assert (await harness.one(facts.STEP_SKIPPED)).certain
    assert charge.calls == []


async def test_a_turn_ends_the_wait_for_the_next_attempt() -> None:
    """The step is skipped at once, in doubt: an attempt had begun."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        raise OSError

    async with running_harness(payment(charge, retry=Retry(initial="5s"))) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.counted("attempts_retried", 1)
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
        assert not (await harness.one(facts.STEP_SKIPPED)).certain


async def test_a_step_past_its_deadline_is_skipped() -> None:
    """A host that comes back after an hour does not do what has long been given up."""
    charge = Counting()
    async with running_harness(payment(charge, timeout="10s", deadline="1m"), started=False) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.clock.advance(61)
        await harness.publish(Placed(order_id="o-2"))
        harness.host()
        skipped = await harness.one(facts.STEP_SKIPPED)
        assert (skipped.key, skipped.certain) == ("o-1", True)
        assert skipped.reason == "its deadline of 1m had passed before it could start"
        assert (await harness.one("Charged")).key == "o-2"


@both_backends
async def test_a_step_of_a_paused_run_is_held_until_the_tracker_calls_again(backend: str) -> None:
    """StepHeld leaves it expected; after the resume it runs for its original trigger, its deadline moved."""
    charge = Counting()
    async with running_harness(
        payment(charge, timeout="10s", deadline="1m"), started=False, backend=backend
    ) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.FLOW_PAUSED, n=1))
        harness.host()
        held = await harness.one(facts.STEP_HELD)
        assert (held.id, held.trigger) == (ids.answer("held", placed.id, "payment.charge"), placed.id)
        await harness.clock.advance(120)
        assert charge.calls == []
        await harness.publish(harness.fact(placed, facts.FLOW_RESUMED, n=2), harness.retry_due(held, outcome=0))
        assert (await harness.one("Charged")).causation == placed.id


async def test_a_step_held_twice_is_held_by_two_facts() -> None:
    """Each StepHeld answers the record that called for the step."""
    async with running_harness(payment(Counting()), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.FLOW_PAUSED, n=1))
        harness.host()
        first = await harness.one(facts.STEP_HELD)
        resumed = harness.fact(placed, facts.FLOW_RESUMED, n=2)
        await harness.publish(
            resumed, harness.fact(placed, facts.FLOW_PAUSED, n=3), harness.retry_due(first, outcome=0)
        )
        _, second = await harness.published(facts.STEP_HELD, 2)
        assert second.id == ids.answer("held", ids.answer("retry-due", first.id, first.step), first.step)
        assert second.trigger == placed.id
        await harness.publish(harness.fact(placed, facts.FLOW_RESUMED, n=4), harness.retry_due(second, outcome=0))
        assert (await harness.one("Charged")).causation == placed.id


async def test_a_lower_number_of_the_pause_series_is_dropped() -> None:
    """One series of pauses and resumes: the highest number read rules."""
    async with running_harness(payment(Counting()), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        resumed = harness.fact(placed, facts.FLOW_RESUMED, n=2)
        await harness.publish(placed, resumed, harness.fact(placed, facts.FLOW_PAUSED, n=1))
        harness.host()
        await harness.one("Charged")


async def test_a_recorded_outcome_is_said_rather_than_a_skip() -> None:
    """A success that was recorded and not published, for a crash came between, is not lost when compensation starts."""
    async with running_harness(payment(Counting()), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        charged = harness.event(Charged(order_id="o-1"), id="charged", run=placed.run, step="payment.charge")
        outcome = Outcome(placed.id, "payment.charge", placed.run, [charged], success=True)
        await harness.backend.inbox("payment").record([outcome])
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED))
        harness.host()
        assert await harness.one("Charged") == charged
        assert await types(harness) == ["Placed", facts.COMPENSATION_STARTED, "Charged"]


@both_backends
async def test_an_event_from_outside_belongs_to_its_keys_oldest_open_run(backend: str) -> None:
    """It sets key, type and value only; the run follows from starts and end facts, as in the tracker."""
    async with running_harness(mail(), backend=backend) as harness:
        ended, first, second = (harness.event(Placed(order_id="o-1", number=n)) for n in (1, 2, 3))
        foreign = harness.event(Charged(order_id="o-1"), id="")
        await harness.publish(ended, first, harness.fact(ended, facts.FLOW_COMPLETED), second, foreign)
        confirmed = await harness.one("Confirmed")
        assert (confirmed.run, confirmed.causation) == (first.id, ids.foreign("order", 0, 4))


async def test_an_event_from_outside_without_an_open_run_makes_nothing() -> None:
    """The tracker keeps it as an orphan; nobody expects a step."""
    async with running_harness(mail()) as harness:
        await harness.publish(harness.event(Charged(order_id="o-1"), id=""))
        await harness.caught_up()
        assert await types(harness) == ["Charged"]


async def test_a_start_from_outside_is_its_own_run() -> None:
    """Neither id nor run are set: both derive from its first position."""
    async with running_harness(payment()) as harness:
        await harness.publish(harness.event(Placed(order_id="o-1"), id="", run=""))
        charged = await harness.one("Charged")
        assert charged.run == charged.causation == ids.foreign("order", 0, 0)


@both_backends
async def test_a_second_trigger_of_a_step_that_runs_once_a_run_is_ignored_aloud(backend: str) -> None:
    """Two foreign duplicates have no id in common; the slot of (run, step) identifies them."""
    calls: list[StepContext] = []
    async with running_harness(mail(calls), backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        duplicates = [harness.event(Charged(order_id="o-1"), id=id_, run=placed.run) for id_ in ("a", "b")]
        await harness.publish(placed, *duplicates)
        ignored = await harness.one(facts.TRIGGER_IGNORED)
        assert (ignored.causation, ignored.id) == ("b", ids.answer("ignored", "b", "mail.confirm"))
    assert [context.event_id for context in calls] == ["a"]


async def test_a_second_trigger_that_a_lost_inbox_lets_in_makes_a_twin_of_the_first_outcome() -> None:
    """The step runs once a run: what comes of it is one fact with one id, as its effect has one key."""
    calls: list[StepContext] = []
    async with running_harness(mail(calls)) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        duplicates = [harness.event(Charged(order_id="o-1"), id=id_, run=placed.run) for id_ in ("a", "b")]
        await harness.publish(placed, duplicates[0])
        first = await harness.one("Confirmed")
        harness.lose_inbox()
        await harness.publish(duplicates[1])
        _, second = await harness.published("Confirmed", 2)
    assert (first.id, second.id) == (ids.outcome(placed.run, "mail.confirm"),) * 2
    assert (first.causation, second.causation) == ("a", "b")
    keys = [context.idempotency_key for context in calls]
    assert keys == [keys[0]] * 2


async def test_a_twin_of_a_trigger_does_not_run_the_step_again() -> None:
    """Also while the first is still at work: the outcome is recorded before the next of its lane starts."""
    charge = Counting()
    async with running_harness(payment(charge), partitions=2) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, placed, placed)
        first = await harness.one("Charged")
        await harness.caught_up()
        assert set(await harness.published("Charged")) == {first}
    assert len(charge.calls) == 1


async def test_a_record_in_a_partition_that_is_not_its_keys_is_not_handled() -> None:
    """The tracker publishes it again in the right partition."""
    charge = Counting()
    async with running_harness(payment(charge), partitions=2, started=False) as harness:
        positions = await harness.publish(Placed(order_id="o-1"))
        wrong = 1 - positions[0].partition
        topics = harness.backend.log.topics.of("order")
        stray = replace(topics[positions[0].partition].pop(), partition=wrong)
        topics[wrong].append(stray)
        harness.host()
        await harness.caught_up()
    assert charge.calls == []


async def test_a_timer_fact_that_came_too_early_is_dropped() -> None:
    """Stamped before its due time it is as if it were not there."""
    charge = Counting()
    async with running_harness(payment(charge), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.fact(placed, facts.FLOW_PAUSED, n=1))
        harness.host()
        held = await harness.one(facts.STEP_HELD)
        due_ms = harness.clock.now_ms() + 60_000
        early = harness.retry_due(held, outcome=0, due_ms=due_ms)
        await harness.publish(harness.fact(placed, facts.FLOW_RESUMED, n=2), early)
        await harness.caught_up()
    assert charge.calls == []


async def test_an_event_beyond_the_hops_allowed_starts_nothing() -> None:
    """The tracker starts compensation for it and expects nothing."""
    charge = Counting()
    async with running_harness(payment(charge), max_hops=3) as harness:
        await harness.publish(harness.event(Placed(order_id="o-1"), hops=3))
        await harness.caught_up()
    assert charge.calls == []
