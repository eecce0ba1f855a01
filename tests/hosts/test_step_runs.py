"""What a host has read about a run stops, holds or finds its steps."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from choreo import Retry, Service, StepContext
from choreo.core import facts, ids
from choreo.ports.inbox import Outcome
from tests.hosts.stage import Charged, Confirmed, Placed, Stage, both_homes, payment, staged


class Counting:
    """A handler that counts its calls, and may be held up."""

    def __init__(self) -> None:
        self.calls: list[StepContext] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """An attempt."""
        self.calls.append(ctx)
        return Charged(order_id=event.order_id)


def mail(calls: list[StepContext] | None = None) -> Service:
    """`mail.confirm`, a step of its run's own event; its calls are noted."""
    service = Service("mail")

    @service.step(on=Charged, emits=Confirmed)
    async def confirm(event: Charged, ctx: StepContext) -> Confirmed:
        if calls is not None:
            calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    return service


async def types(stage: Stage) -> list[str]:
    """The types in the log, in order."""
    return [record.event.type for record in await stage.log()]


@both_homes
async def test_a_trigger_before_its_runs_turn_is_skipped_aloud_and_certainly(home: str) -> None:
    """It was expected: StepSkipped settles that. No attempt had begun, so nothing is in doubt."""
    charge = Counting()
    async with staged(payment(charge), started=False, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED))
        stage.host()
        skipped = await stage.one(facts.STEP_SKIPPED)
        assert (skipped.causation, skipped.step, skipped.certain) == (placed.id, "payment.charge", True)
        assert skipped.reason == "its run is turned back or ended"
    assert charge.calls == []


async def test_a_trigger_after_its_runs_turn_is_skipped_in_silence() -> None:
    """It makes nothing expected, and nobody waits for a word."""
    async with staged(mail()) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        late = stage.event(Charged(order_id="o-1"), id="late", run=placed.run)
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED), late)
        await stage.caught_up()
        assert await types(stage) == ["Placed", facts.FLOW_TURNED, "Charged"]


@both_homes
async def test_the_turn_is_remembered_by_the_next_host(home: str) -> None:
    """The inbox keeps it beyond the process that read it."""
    async with staged(mail(), home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED))
        await stage.caught_up()
        await stage.stop()
        stage.host("two")
        await stage.publish(stage.event(Charged(order_id="o-1"), id="late", run=placed.run))
        await stage.caught_up()
        assert await types(stage) == ["Placed", facts.FLOW_TURNED, "Charged"]


@both_homes
async def test_a_turn_is_where_it_was_read_first_also_for_the_next_host(home: str) -> None:
    """A host that restarts and reads a twin of the turn ahead judges triggers by the first of the two."""
    async with staged(mail(), home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        turned = stage.fact(placed, facts.FLOW_TURNED)
        await stage.publish(placed, turned)
        await stage.caught_up()
        await stage.stop()
        await stage.publish(stage.event(Charged(order_id="o-1"), id="late", run=placed.run), turned)
        stage.host("two")
        await stage.caught_up()
        assert await types(stage) == ["Placed", facts.FLOW_TURNED, "Charged", facts.FLOW_TURNED]


async def test_a_turn_astray_says_nothing_to_a_host_that_reads_ahead() -> None:
    """Its place in another partition would be compared with a trigger's in its own."""
    charge = Counting()
    async with staged(payment(charge), partitions=2, started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        ((_, partition, _), _) = await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED))
        topics = stage.home.log._topics.of("order")
        stray = topics[partition].pop()
        topics[1 - partition].append(replace(stray, partition=1 - partition, offset=0))
        stage.host()
        await stage.caught_up()
    assert [context.run for context in charge.calls] == [placed.id]


async def test_a_terminated_run_starts_no_step() -> None:
    """An operator has ended it."""
    charge = Counting()
    async with staged(payment(charge), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TERMINATED))
        stage.host()
        assert (await stage.one(facts.STEP_SKIPPED)).certain
    assert charge.calls == []


async def test_a_turn_ends_the_wait_for_the_next_attempt() -> None:
    """The step is skipped at once, in doubt: an attempt had begun."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        raise OSError

    async with staged(payment(charge, retry=Retry(initial="5s"))) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        await stage.counted("retried", 1)
        await stage.publish(stage.fact(placed, facts.FLOW_TURNED))
        assert not (await stage.one(facts.STEP_SKIPPED)).certain


async def test_a_step_past_its_deadline_is_skipped() -> None:
    """A host that comes back after an hour does not do what has long been given up."""
    charge = Counting()
    async with staged(payment(charge, timeout="10s", deadline="1m"), started=False) as stage:
        await stage.publish(Placed(order_id="o-1"))
        await stage.clock.advance(61)
        await stage.publish(Placed(order_id="o-2"))
        stage.host()
        skipped = await stage.one(facts.STEP_SKIPPED)
        assert (skipped.key, skipped.certain) == ("o-1", True)
        assert skipped.reason == "its deadline of 1m had passed before it could start"
        assert (await stage.one("Charged")).key == "o-2"


@both_homes
async def test_a_step_of_a_paused_run_is_held_until_the_tracker_calls_again(home: str) -> None:
    """StepHeld leaves it expected; after the resume it runs for its original trigger, its deadline moved."""
    charge = Counting()
    async with staged(payment(charge, timeout="10s", deadline="1m"), started=False, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_PAUSED, n=1))
        stage.host()
        held = await stage.one(facts.STEP_HELD)
        assert (held.id, held.trigger) == (ids.answer("held", placed.id, "payment.charge"), placed.id)
        await stage.clock.advance(120)
        assert charge.calls == []
        await stage.publish(stage.fact(placed, facts.FLOW_RESUMED, n=2), stage.retry_due(held, outcome=0))
        assert (await stage.one("Charged")).causation == placed.id


async def test_a_step_held_twice_is_held_by_two_facts() -> None:
    """Each StepHeld answers the record that called for the step."""
    async with staged(payment(Counting()), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_PAUSED, n=1))
        stage.host()
        first = await stage.one(facts.STEP_HELD)
        resumed = stage.fact(placed, facts.FLOW_RESUMED, n=2)
        await stage.publish(resumed, stage.fact(placed, facts.FLOW_PAUSED, n=3), stage.retry_due(first, outcome=0))
        _, second = await stage.said(facts.STEP_HELD, 2)
        assert second.id == ids.answer("held", ids.answer("retry-due", first.id, first.step), first.step)
        assert second.trigger == placed.id
        await stage.publish(stage.fact(placed, facts.FLOW_RESUMED, n=4), stage.retry_due(second, outcome=0))
        assert (await stage.one("Charged")).causation == placed.id


async def test_a_lower_number_of_the_pause_series_is_dropped() -> None:
    """One series of pauses and resumes: the highest number read rules."""
    async with staged(payment(Counting()), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        resumed = stage.fact(placed, facts.FLOW_RESUMED, n=2)
        await stage.publish(placed, resumed, stage.fact(placed, facts.FLOW_PAUSED, n=1))
        stage.host()
        await stage.one("Charged")


async def test_a_recorded_outcome_is_said_rather_than_a_skip() -> None:
    """A success that was recorded and not published, for a crash came between, is not lost to a turn."""
    async with staged(payment(Counting()), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        charged = stage.event(Charged(order_id="o-1"), id="charged", run=placed.run, step="payment.charge")
        outcome = Outcome(placed.id, "payment.charge", placed.run, [charged], success=True)
        await stage.home.inbox("payment").record([outcome])
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED))
        stage.host()
        assert await stage.one("Charged") == charged
        assert await types(stage) == ["Placed", facts.FLOW_TURNED, "Charged"]


@both_homes
async def test_an_event_from_outside_belongs_to_its_keys_oldest_open_run(home: str) -> None:
    """It sets key, type and value only; the run is told from starts and end facts, as the tracker does."""
    async with staged(mail(), home=home) as stage:
        ended, first, second = (stage.event(Placed(order_id="o-1", number=n)) for n in (1, 2, 3))
        foreign = stage.event(Charged(order_id="o-1"), id="")
        await stage.publish(ended, first, stage.fact(ended, facts.FLOW_COMPLETED), second, foreign)
        confirmed = await stage.one("Confirmed")
        assert (confirmed.run, confirmed.causation) == (first.id, ids.foreign("order", 0, 4))


async def test_an_event_from_outside_without_an_open_run_makes_nothing() -> None:
    """The tracker keeps it as an orphan; nobody expects a step."""
    async with staged(mail()) as stage:
        await stage.publish(stage.event(Charged(order_id="o-1"), id=""))
        await stage.caught_up()
        assert await types(stage) == ["Charged"]


async def test_a_start_from_outside_is_its_own_run() -> None:
    """Neither id nor run are set: both derive from its first position."""
    async with staged(payment()) as stage:
        await stage.publish(stage.event(Placed(order_id="o-1"), id="", run=""))
        charged = await stage.one("Charged")
        assert charged.run == charged.causation == ids.foreign("order", 0, 0)


@both_homes
async def test_a_second_trigger_of_a_step_that_runs_once_a_run_is_ignored_aloud(home: str) -> None:
    """Two foreign twins have no id in common; the slot of (run, step) tells."""
    calls: list[StepContext] = []
    async with staged(mail(calls), home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        twins = [stage.event(Charged(order_id="o-1"), id=id_, run=placed.run) for id_ in ("a", "b")]
        await stage.publish(placed, *twins)
        ignored = await stage.one(facts.TRIGGER_IGNORED)
        assert (ignored.causation, ignored.id) == ("b", ids.answer("ignored", "b", "mail.confirm"))
    assert [context.event_id for context in calls] == ["a"]


async def test_a_second_trigger_that_a_lost_inbox_lets_in_makes_a_twin_of_the_first_outcome() -> None:
    """The step runs once a run: what comes of it is one fact with one id, as its effect has one key."""
    calls: list[StepContext] = []
    async with staged(mail(calls)) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        twins = [stage.event(Charged(order_id="o-1"), id=id_, run=placed.run) for id_ in ("a", "b")]
        await stage.publish(placed, twins[0])
        first = await stage.one("Confirmed")
        stage.home.inbox("mail").__init__(stage.clock)  # it is as new
        await stage.publish(twins[1])
        _, second = await stage.said("Confirmed", 2)
    assert (first.id, second.id) == (ids.outcome(placed.run, "mail.confirm"),) * 2
    assert (first.causation, second.causation) == ("a", "b")
    keys = [context.idempotency_key for context in calls]
    assert keys == [keys[0]] * 2


async def test_a_twin_of_a_trigger_does_not_run_the_step_again() -> None:
    """Also while the first is still at work: the outcome is recorded before the next of its lane starts."""
    charge = Counting()
    async with staged(payment(charge), partitions=2) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, placed, placed)
        first = await stage.one("Charged")
        await stage.caught_up()
        assert set(await stage.said("Charged")) == {first}
    assert len(charge.calls) == 1


async def test_a_record_in_a_partition_that_is_not_its_keys_is_not_handled() -> None:
    """The tracker says it again where it belongs."""
    charge = Counting()
    async with staged(payment(charge), partitions=2, started=False) as stage:
        positions = await stage.publish(Placed(order_id="o-1"))
        wrong = 1 - positions[0].partition
        topics = stage.home.log._topics.of("order")
        stray = replace(topics[positions[0].partition].pop(), partition=wrong)
        topics[wrong].append(stray)
        stage.host()
        await stage.caught_up()
    assert charge.calls == []


async def test_a_timer_fact_that_came_too_early_is_dropped() -> None:
    """Stamped before its due time it is as if it were not there."""
    charge = Counting()
    async with staged(payment(charge), started=False) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.fact(placed, facts.FLOW_PAUSED, n=1))
        stage.host()
        held = await stage.one(facts.STEP_HELD)
        due_ms = stage.clock.now_ms() + 60_000
        early = stage.retry_due(held, outcome=0, due_ms=due_ms)
        await stage.publish(stage.fact(placed, facts.FLOW_RESUMED, n=2), early)
        await stage.caught_up()
    assert charge.calls == []


async def test_an_event_beyond_the_hops_allowed_starts_nothing() -> None:
    """The tracker turns the run for it and expects nothing."""
    charge = Counting()
    async with staged(payment(charge), max_hops=3) as stage:
        await stage.publish(stage.event(Placed(order_id="o-1"), hops=3))
        await stage.caught_up()
    assert charge.calls == []
