"""Operators' actions on a run, steps that are held, and retries that are facts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.definition import FlowDefinition, RetryRule
from choreo.core.timers import next_due
from choreo.testing import Scenario, duplicate, elapsed, event, given, undo
from tests.core.order import ORDER, PICKED, but
from tests.core.plain import CHARGE, HOUR_MS

RESERVED = ("OrderPlaced", "StockReserved")
PAID = (*RESERVED, "PaymentCharged")
CANCEL, PAUSE, RESUME = "choreo.CancelRequested", "choreo.FlowPaused", "choreo.FlowResumed"
HELD = event("choreo.StepHeld", step="payment.charge")

# Cancel and terminate.


def test_a_cancel_turns_the_run_with_its_reason_as_the_cause() -> None:
    """Everything done is undone."""
    story = given(PICKED, *PAID).when(event(CANCEL, reason="the customer called"))
    story.then("choreo.CompensationStarted", undo("payment.charge"), cause="cancelled: the customer called")


def test_a_cancel_of_a_turned_run_finds_it_as_wished() -> None:
    """There is nothing to refuse, and the first cause stays."""
    story = given(PICKED, *PAID, CANCEL).when(event(CANCEL, id="again", reason="twice")).then_nothing()
    story.when("PaymentRefunded", "StockReleased").then(status="compensated", cause="cancelled: no reason given")
    story.when(event(CANCEL, id="late")).then_nothing()


def test_a_cancel_of_a_run_that_went_well_is_refused() -> None:
    """This flow does not undo a completed run."""
    story = given(ORDER, *PAID, "OrderConfirmed").when(CANCEL)
    story.then(event("choreo.CancelRefused", reason="the run has ended: completed"), status="completed")


def test_a_termination_ends_the_run_as_it_is() -> None:
    """Nothing is undone; what stays is in the ledger."""
    story = given(ORDER, *PAID).when(event("choreo.FlowTerminated", reason="a test order")).then_nothing()
    story.then(status="terminated", cause="a test order", expected=[])
    story.then(ledger={"stock.reserve": "open", "payment.charge": "open"})
    story.when(elapsed("3d")).then_nothing()


def test_an_undo_that_answers_after_the_termination_is_still_written_down() -> None:
    """It was under way: the ledger shows the truth."""
    story = given(PICKED, *PAID, CANCEL, "choreo.FlowTerminated").when("PaymentRefunded").then_nothing()
    story.then(status="terminated", ledger={"stock.reserve": "open", "payment.charge": "undone"})


# Pause and resume.


def test_a_pause_shows_and_stops_every_decision() -> None:
    """A paused run asks for nothing and does not end."""
    story = given(PICKED, *PAID, PAUSE).then(status="paused").when(CANCEL).then("choreo.CompensationStarted")
    story.when(RESUME).then(undo("payment.charge"), status="compensating")
    story = given(ORDER, *PAID, PAUSE).when("OrderConfirmed").then_nothing().then(status="paused")
    story.when(RESUME).then("choreo.FlowCompleted", status="completed")


def test_deadlines_stand_still_while_a_run_is_paused() -> None:
    """Step, wait, flow and undo: each moves by as long as the pause took."""
    for tale, due in [
        (RESERVED, "choreo.StepDeadlinePassed"),
        (PAID, "PickTimedOut"),
        ((*PAID, CANCEL), "choreo.CompensationDeadlinePassed"),
    ]:
        story = given(PICKED, *tale).when(elapsed("30m"), PAUSE, elapsed("20h")).then_nothing()
        story.when(RESUME, elapsed("29m")).then_nothing()
        assert due in [fact.type for fact in story.when(elapsed("1m")).published]
    story = given(replace(PICKED, deadline_ms=HOUR_MS // 2), "OrderPlaced", PAUSE, elapsed("20h"), RESUME)
    story.when(elapsed("29m")).then_nothing()
    assert story.when(elapsed("1m")).published[0].type == facts.FLOW_DEADLINE_PASSED


def test_what_begins_in_a_pause_has_its_whole_time_from_the_resumption_on() -> None:
    """A step that became expected in the pause is not given the pause on top."""
    story = given(ORDER, "OrderPlaced", PAUSE, elapsed("20h"), "StockReserved", elapsed("5h"), RESUME)
    resumed_ms = story.log[-1].stamp_ms
    assert story.runs[0].expected[0].due_ms == resumed_ms + HOUR_MS
    story = given(PICKED, *RESERVED, PAUSE, elapsed("20h"), "PaymentCharged", elapsed("5h"), RESUME)
    assert story.runs[0].waits[0].due_ms == story.log[-1].stamp_ms + HOUR_MS


def test_a_reader_of_the_pause_series_keeps_the_highest_number() -> None:
    """A pause read after the resumption that followed it pauses nothing."""
    story = given(ORDER, "OrderPlaced", event(PAUSE, n=1, id="p1"), event(RESUME, n=4, id="p4"))
    story.when(event(PAUSE, n=3, id="p3")).then(status="running")
    story.when(event(PAUSE, n=5, id="p5")).then(status="paused")
    story.when(event(RESUME, n=2, id="p2")).then(status="paused")


def test_a_pause_upon_a_pause_counts_from_the_first() -> None:
    """Two operators pause: the run stood still from the first one on."""
    story = given(ORDER, *RESERVED, PAUSE, elapsed("5h"), PAUSE, elapsed("5h"), RESUME)
    assert story.runs[0].expected[0].due_ms == story.log[-1].stamp_ms + HOUR_MS - 1_000
    story.when(event(RESUME, n=9, id="again")).then(status="running", expected=["payment.charge"])


def test_a_failure_in_a_pause_turns_the_run_and_undoes_nothing_yet() -> None:
    """CompensationStarted is a fact of the step; the requests wait."""
    story = given(ORDER, *RESERVED, PAUSE).when("PaymentDeclined").then("choreo.CompensationStarted", status="paused")
    story.when(RESUME).then(undo("stock.reserve"))


def test_an_ended_run_is_not_paused() -> None:
    """There is nothing to hold."""
    given(ORDER, *PAID, "OrderConfirmed", PAUSE).then(status="completed").when(RESUME).then(status="completed")


# Steps that are held.


def test_a_held_step_stays_expected_and_is_woken_on_resume() -> None:
    """Its host did not start it in the pause; StepRetryDue carries the time."""
    story = given(ORDER, *RESERVED, PAUSE, HELD).then_nothing().then(expected=["payment.charge"])
    held = story.log[-1].event
    story.when(RESUME).then(event("choreo.StepRetryDue", step="payment.charge", trigger=story.log[1].event.id))
    assert story.published[0].id == ids.answer("retry-due", held.id, "payment.charge")
    assert not story.runs[0].expected[0].held


def test_a_step_held_after_the_resumption_is_woken_at_once() -> None:
    """The host read the pause and not yet the resumption."""
    given(ORDER, *RESERVED, PAUSE, RESUME).when(HELD).then(event("choreo.StepRetryDue", step="payment.charge"))


def test_a_step_held_in_a_second_pause_is_woken_again() -> None:
    """The wake was read in the next pause: the host holds once more, and is woken once more."""
    story = given(ORDER, *RESERVED, PAUSE, HELD, RESUME, PAUSE)
    woken = story.offset_of("choreo.StepRetryDue")
    again = ids.answer("held", story.log[woken].event.id, "payment.charge")
    story.when(event("choreo.StepHeld", step="payment.charge", id=again)).then_nothing()
    story.when(RESUME).then("choreo.StepRetryDue")


def test_a_wake_carries_the_deadline_that_the_pause_has_moved() -> None:
    """A host that reckons from the trigger's stamp would skip the step; the wake carries the right deadline."""
    story = given(ORDER, *RESERVED, PAUSE, HELD, elapsed("20h"), RESUME)
    wake = story.published[0] if story.published else story.log[-1].event
    assert wake.type == facts.STEP_RETRY_DUE
    assert wake.deadline_ms == story.runs[0].expected[0].due_ms > story.log[1].stamp_ms + 20 * HOUR_MS
    assert wake.outcome == 1  # where the trigger stands


def test_an_undo_is_held_and_woken_too() -> None:
    """The wake carries what the request did: entry, round, outcome; and the number of the resume."""
    story = given(PICKED, *PAID, CANCEL, PAUSE, event("choreo.StepHeld", step="payment.charge"), elapsed("20h"))
    entry = story.runs[0].ledger[1]
    story.when(RESUME).then(event("choreo.StepRetryDue", entry=entry.id, round=1, outcome=2, nothings=0, n=2))
    assert story.published[0].deadline_ms == story.runs[0].ledger[1].due_ms
    story.when("PaymentRefunded").then(undo("stock.reserve"))


# Retries that are facts.

PATIENT = RetryRule(initial_ms=HOUR_MS // 4, backoff=2, interval_max_ms=HOUR_MS, attempts_max=5)
SLOW: FlowDefinition = but(
    PICKED,
    payment__charge=replace(
        CHARGE,
        retry=PATIENT,
        deadline_ms=9 * HOUR_MS,
        compensation=replace(CHARGE.compensation, retry=PATIENT, deadline_ms=9 * HOUR_MS),
    ),
)
FAILED_ONCE = event("choreo.StepAttemptFailed", step="payment.charge")


def _attempt(story: Scenario, number: int) -> Scenario:
    return story.when(event("choreo.StepAttemptFailed", step="payment.charge", attempt=number, id=f"attempt-{number}"))


def test_a_far_off_retry_is_woken_when_it_is_time() -> None:
    """By the policy's wait after that attempt; the step stays expected meanwhile."""
    story = _attempt(given(SLOW, *RESERVED), 1).then_nothing().then(expected=["payment.charge"])
    story.when(elapsed("14m")).then_nothing().when(elapsed("1m"))
    story.then(event("choreo.StepRetryDue", step="payment.charge", attempt=1, outcome=1))
    _attempt(story, 2).when(elapsed("29m")).then_nothing().when(elapsed("1m"))
    story.then(event("choreo.StepRetryDue", attempt=2))
    story.when("PaymentCharged").then(ledger={"stock.reserve": "open", "payment.charge": "open"})


def test_a_wake_is_said_until_it_is_read_back() -> None:
    """A due wake stays due: one that was lost on the way is published again, under the same id."""
    story = given(SLOW, *RESERVED, FAILED_ONCE, read_back=False).when(elapsed("15m"))
    first = story.published[0]
    assert story.when(elapsed("1m")).published == [first]
    story.read_back().when(elapsed("1h")).then_nothing()


def test_the_twin_of_a_failed_attempt_wakes_nobody_twice() -> None:
    """It was answered already."""
    story = given(SLOW, *RESERVED, FAILED_ONCE, elapsed("15m")).when(
        duplicate("choreo.StepAttemptFailed"), elapsed("2h")
    )
    story.then_nothing()


def test_a_failed_attempt_in_a_pause_waits_from_the_resumption_on() -> None:
    """The clock of the run stood still."""
    story = given(SLOW, *RESERVED, PAUSE, elapsed("1h"), FAILED_ONCE, elapsed("1h"), RESUME)
    story.when(elapsed("14m")).then_nothing().when(elapsed("1m")).then("choreo.StepRetryDue")


def test_a_failed_attempt_of_a_turned_run_is_woken_at_once() -> None:
    """Nobody waits for it any more: its host skips it, and the doubt can be settled."""
    story = given(SLOW, *RESERVED, CANCEL).when(FAILED_ONCE)
    assert next_due(story.state) == story.state.now_ms
    story.when(event("choreo.StepSkipped", step="payment.charge", certain=False))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open in doubt"})


def test_a_retry_of_an_undo_is_a_fact_too() -> None:
    """It keeps its round, its outcome and the number of its attempts."""
    story = _attempt(given(SLOW, *PAID, CANCEL), 3).when(elapsed("59m")).then_nothing().when(elapsed("1m"))
    story.then(event("choreo.StepRetryDue", step="payment.charge", round=1, outcome=2, attempt=3))
    story.when("PaymentRefunded").when(elapsed("1h"))
    assert not [fact for fact in story.published if fact.type == facts.STEP_RETRY_DUE]


def test_a_retry_that_would_come_after_the_deadline_does_not_come() -> None:
    """The deadline of the step or of its undo ends the waiting."""
    late = but(
        SLOW,
        payment__charge=replace(CHARGE, retry=replace(PATIENT, initial_ms=HOUR_MS * 2, interval_max_ms=HOUR_MS * 2)),
    )
    story = given(late, *RESERVED, FAILED_ONCE).when(elapsed("3h"))
    assert facts.STEP_RETRY_DUE not in [fact.type for fact in story.published]


# Stuck undos.


def _stuck() -> Scenario:
    return given(PICKED, *PAID, CANCEL, event("choreo.CompensationFailed", reason="no"), "StockReleased").then(
        status="stuck"
    )


def test_an_operators_retry_is_a_new_round() -> None:
    """Asked anew, under the same idempotency key, and then all is undone."""
    story = _stuck().when(event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.then(undo("payment.charge", round=2, n=0), status="compensating")
    story.when("PaymentRefunded").then("OrderCancelled", "choreo.FlowCompensated", status="compensated")


def test_an_undo_resolved_by_hand_counts_as_settled() -> None:
    """With a reason, as an event: the run goes on to compensated."""
    story = _stuck().when(event("choreo.CompensationResolved", step="payment.charge", reason="paid back in cash"))
    story.then(status="compensated", ledger={"stock.reserve": "undone", "payment.charge": "resolved"})
    assert story.runs[0].ledger[1].cause == "resolved by hand: paid back in cash"


def test_the_undos_event_may_come_after_it_was_resolved() -> None:
    """It did happen in the end."""
    story = _stuck().when(event("choreo.CompensationResolved", step="payment.charge", reason="cash"), "PaymentRefunded")
    story.then(ledger={"stock.reserve": "undone", "payment.charge": "undone"})


@pytest.mark.parametrize("wish", ["choreo.CompensationRetryRequested", "choreo.CompensationResolved"])
def test_an_operators_word_about_an_earlier_round_means_nothing(wish: str) -> None:
    """A colleague asked for another round meanwhile, or a late success did."""
    story = _stuck().when(event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.when(event(wish, step="payment.charge", round=1, id="old")).then_nothing()
    story.then(ledger={"stock.reserve": "undone", "payment.charge": "requested"})


@pytest.mark.parametrize("wish", ["choreo.CompensationRetryRequested", "choreo.CompensationResolved"])
def test_an_operators_word_about_an_undone_entry_means_nothing(wish: str) -> None:
    """It worked after all, before the operator's event was read."""
    story = _stuck().when("PaymentRefunded", event(wish, step="payment.charge")).then(status="compensated")
    story.then(ledger={"stock.reserve": "undone", "payment.charge": "undone"})


def test_a_retry_of_a_terminated_run_opens_nothing() -> None:
    """It has ended: nobody would ask."""
    story = _stuck().when("choreo.FlowTerminated", event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.then_nothing().then(status="terminated", ledger={"stock.reserve": "undone", "payment.charge": "failed"})


def test_a_retry_of_a_doubt_that_cannot_be_asked_stays_stuck() -> None:
    """Asking again does not teach a compensation to take None."""
    deaf = but(PICKED, payment__charge=replace(CHARGE, compensation=replace(CHARGE.compensation, takes_none=False)))
    story = given(deaf, *RESERVED, elapsed("1h"), "StockReleased").then(status="stuck")
    story.when(event("choreo.CompensationRetryRequested", step="payment.charge")).then_nothing().then(status="stuck")
