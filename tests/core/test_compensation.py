"""The way back: undos newest first, their answers and deadlines, doubt, and the end of a run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import ids
from choreo.testing import elapsed, event, foreign, given, undo
from tests.core.order import ORDER, PICKED, WIDE, but
from tests.core.plain import CHARGE, HOUR_MS, RESERVE, flow, step, with_undo

PAID = ("OrderPlaced", "StockReserved", "PaymentCharged")
CANCEL = "choreo.CancelRequested"
DOUBTED = ("OrderPlaced", "StockReserved", elapsed("1h"))


def test_undos_are_asked_for_newest_first_one_after_the_other() -> None:
    """The newest effect is undone first; the next undo is requested when the one before is answered."""
    story = given(PICKED, *PAID).when(CANCEL).then("choreo.CompensationStarted", undo("payment.charge"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested"})
    story.when("PaymentRefunded").then(undo("stock.reserve"))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "undone"})
    story.when("StockReleased").then("OrderCancelled", "choreo.FlowCompensated", status="compensated")


def test_newest_is_by_the_position_of_the_fact_that_opened_the_entry() -> None:
    """The label was triggered last and printed first: the charge is the newer entry."""
    given(WIDE, "OrderPlaced", "StockReserved", "LabelPrinted", "PaymentCharged", CANCEL).then(
        ledger={"stock.reserve": "open", "labels.print": "open", "payment.charge": "requested"}
    )


def test_a_request_names_the_outcome_the_entry_the_round_and_the_trigger() -> None:
    """The host of the undo needs nothing else."""
    story = given(ORDER, *PAID).when(event(CANCEL, reason="the customer called"))
    request, run = story.published[1], story.runs[0]
    entry = ids.entry(run.id, "payment.charge", story.log[1].event.id)
    assert (request.entry, request.round, request.outcome, request.n) == (entry, 1, 2, 0)
    assert (request.trigger, request.run) == (story.log[1].event.id, run.id)
    assert request.id == ids.of_round("undo-request", entry, 1)
    assert request.reason == "cancelled: the customer called"


def test_the_turn_does_not_wait_for_steps_that_are_still_expected() -> None:
    """Undos begin at once; what succeeds meanwhile is undone when its turn comes."""
    story = (
        given(WIDE, "OrderPlaced", "StockReserved")
        .when("PaymentDeclined")
        .then("choreo.CompensationStarted", undo("stock.reserve"))
    )
    story.when("LabelPrinted").then_nothing().then(ledger={"stock.reserve": "requested", "labels.print": "open"})
    story.when("StockReleased").then(undo("labels.print"))


def test_a_run_is_not_compensated_while_a_step_is_expected() -> None:
    """The label may still be printed."""
    story = given(WIDE, "OrderPlaced", "StockReserved", "PaymentDeclined").when("StockReleased")
    story.then_nothing().then(status="compensating", expected=["labels.print"])
    story.when(event("choreo.StepSkipped", step="labels.print")).then("choreo.FlowCompensated", status="compensated")


def test_a_skip_of_a_turned_run_settles_its_expectation_and_if_certain_its_doubt() -> None:
    """Certain: nothing is left. Otherwise an attempt had begun, and its entry is in doubt."""
    compensating = ("OrderPlaced", "StockReserved", "PaymentDeclined", "StockReleased")
    given(WIDE, *compensating).when(event("choreo.StepSkipped", step="labels.print", certain=True)).then(
        status="compensated"
    )
    given(WIDE, *compensating).when(event("choreo.StepSkipped", step="labels.print", certain=False)).then(
        undo("labels.print", outcome=-1), status="compensating"
    )


def test_a_run_with_nothing_to_undo_is_compensated_at_once() -> None:
    """The first step failed."""
    given(ORDER, "OrderPlaced").when("StockRejected").then(
        "choreo.CompensationStarted", "OrderCancelled", "choreo.FlowCompensated", status="compensated"
    )


def test_the_domain_hears_of_the_end_once_and_with_the_cause() -> None:
    """`fails=OrderCancelled` carries the key and a reason; its id is derived from the run."""
    story = given(ORDER, "OrderPlaced").when("StockRejected")
    published = story.published[1]
    assert published.data == b'{"order_id":"order-1"}'
    assert published.id == ids.of_run("OrderCancelled", story.runs[0].id)
    assert published.reason == "stock.reserve failed: StockRejected"
    story.when(event("StockReserved", id="late"), "StockReleased").then(undo("stock.reserve"), "choreo.FlowCompensated")


def test_a_turned_run_ends_when_its_fact_is_read() -> None:
    """The run is compensating until the tracker reads FlowCompensated from the log."""
    story = given(ORDER, "OrderPlaced", read_back=False).when("StockRejected").then(status="compensating")
    story.read_back().then(status="compensated")


# In doubt.


def test_an_undo_in_doubt_that_answers_with_its_event_has_undone_it() -> None:
    """The effect was there."""
    story = given(ORDER, *DOUBTED).when("PaymentRefunded").then(undo("stock.reserve"))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "undone"})


def test_an_undo_in_doubt_that_answers_nothing_has_settled_it() -> None:
    """It was not there, and its key is barred."""
    story = given(ORDER, *DOUBTED).when("choreo.NothingToCompensate").then(undo("stock.reserve"))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "nothing"})
    story.when("StockReleased").then(status="compensated")


def test_an_undo_that_was_given_the_outcome_and_answers_nothing_has_failed() -> None:
    """The charge is known; that nothing was there to refund is no answer."""
    story = (
        given(PICKED, *PAID, CANCEL).when("choreo.NothingToCompensate").then(undo("stock.reserve"), "choreo.FlowStuck")
    )
    story.then(status="stuck", ledger={"stock.reserve": "requested", "payment.charge": "failed"})
    assert story.runs[0].ledger[1].cause == "its undo was given the outcome and answered nothing"


@pytest.mark.parametrize("unable", [{"takes_none": False}, {"bars": False}], ids=["cannot take None", "cannot bar"])
def test_a_doubt_that_cannot_be_asked_ends_stuck(unable: dict[str, bool]) -> None:
    """Never silently compensated; the other undos go on, and no request was made for it."""
    story = given(but(ORDER, payment__charge=with_undo(**unable)), *DOUBTED)
    story.then(status="stuck", ledger={"stock.reserve": "requested", "payment.charge": "failed in doubt"})
    assert story.runs[0].ledger[1].cause == "in doubt"
    story.when("StockReleased").then_nothing().then(status="stuck")


@pytest.mark.parametrize("unable", [{"takes_none": False}, {"bars": False}], ids=["cannot take None", "cannot bar"])
def test_a_doubt_that_could_not_be_asked_and_becomes_certain_is_undone(unable: dict[str, bool]) -> None:
    """A late success shows the effect: the compensation has its outcome now."""
    story = given(but(ORDER, payment__charge=with_undo(**unable)), *DOUBTED, "StockReleased")
    story.when("PaymentCharged").then(undo("payment.charge", outcome=story.offset_of("PaymentCharged")))
    story.when("PaymentRefunded").then(status="compensated")


def test_a_late_failure_that_is_certain_settles_a_doubt_that_nobody_asks_about() -> None:
    """The only attempt was refused: nothing is left. A stuck run goes on to compensated."""
    story = given(but(ORDER, payment__charge=with_undo(bars=False)), *DOUBTED, "StockReleased").then(status="stuck")
    story.when("PaymentDeclined").then("OrderCancelled", "choreo.FlowCompensated", status="compensated")
    given(ORDER, *DOUBTED).when("PaymentDeclined").then(
        ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"}
    )  # an undo is under way: it answers


def test_a_late_failure_that_is_not_certain_settles_nothing() -> None:
    """It is in doubt already."""
    story = given(but(ORDER, payment__charge=with_undo(bars=False)), *DOUBTED, "StockReleased")
    story.when(event("PaymentDeclined", certain=False)).then_nothing().then(status="stuck")


@pytest.mark.parametrize("fact", ["choreo.StepFailed", "choreo.StepAttemptFailed"])
def test_an_attempt_after_a_certain_failure_is_in_doubt_all_the_same(fact: str) -> None:
    """Only a host that has lost its inbox begins a settled trigger again: a failed undo is then not taken for done."""
    story = given(ORDER, *DOUBTED).when("PaymentDeclined")
    trigger = story.log[1].event.id
    story.when(event(fact, step="payment.charge", certain=False, entry="", trigger=trigger, causation=trigger))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})
    story.when("choreo.CompensationFailed").then(
        ledger={"stock.reserve": "requested", "payment.charge": "failed in doubt"}
    )


def test_a_certain_failure_does_not_settle_a_doubt_with_a_known_attempt() -> None:
    """The host that says so has lost its inbox: the log has the failed attempt, or the uncertain outcome."""
    not_asked = but(ORDER, payment__charge=with_undo(bars=False))
    failed = event("choreo.StepAttemptFailed", step="payment.charge", attempt=1)
    skipped = event("choreo.StepSkipped", step="payment.charge", certain=True)
    story = given(not_asked, "OrderPlaced", "StockReserved", failed, *DOUBTED[2:], "StockReleased")
    story.then(status="stuck").when(skipped).then_nothing().then(status="stuck")
    given_up = event("choreo.StepFailed", step="payment.charge", certain=False)
    story = given(not_asked, "OrderPlaced", "StockReserved", given_up, "StockReleased")
    story.then(status="stuck").when(skipped).then_nothing().then(status="stuck")


def test_a_failure_that_nobody_expected_and_that_is_not_certain_is_undone_too() -> None:
    """A host whose inbox was lost may have begun a step after compensation started, and then gives it up."""
    story = given(ORDER, "OrderPlaced", CANCEL, event("StockReserved", id="late")).then(expected=[])
    story.when(event("choreo.StepSkipped", step="payment.charge", causation="late", certain=False))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open in doubt"})
    story.when("StockReleased").then(undo("payment.charge", outcome=-1))
    story.when("choreo.NothingToCompensate").then(status="compensated")


def test_a_failure_that_is_not_certain_opens_a_run_that_has_ended() -> None:
    """A host whose inbox was lost begins again after the end: its effect is undone in doubt, like a late success."""
    story = given(ORDER, "OrderPlaced", "StockReserved", "PaymentDeclined", "StockReleased").then(status="compensated")
    declined = next(record.event for record in story.log if record.event.type == "PaymentDeclined")
    again = {"id": declined.id, "step": declined.step, "causation": declined.causation, "certain": False}
    story.when(event("PaymentDeclined", **again)).then(undo("payment.charge", outcome=-1), status="compensating")
    story.when("choreo.NothingToCompensate").then(event("choreo.FlowCompensated", n=1), status="compensated")
    story.when(event("PaymentDeclined", **again)).then_nothing().then(status="compensated")


@pytest.mark.parametrize("fact", ["choreo.StepFailed", "choreo.StepSkipped", "choreo.StepAttemptFailed"])
def test_a_doubt_after_an_end_that_undoes_nothing_is_written_down(fact: str) -> None:
    """Nobody asks for it any more; the ledger shows that an effect may stand."""
    story = given(ORDER, "OrderPlaced", "choreo.FlowTerminated").when(event(fact, step="stock.reserve", certain=False))
    story.then_nothing().then(status="terminated", ledger={"stock.reserve": "open in doubt"})


# Answers of undos, early, late and odd.


def test_an_undos_event_closes_its_entry_whatever_its_state_or_round() -> None:
    """Open, requested, failed or asked anew: what is undone is undone."""
    story = given(ORDER, *PAID, CANCEL).when(event("StockReleased", entry=_entry_of(given(ORDER, *PAID), 0)))
    story.then(ledger={"stock.reserve": "undone", "payment.charge": "requested"})
    story = given(ORDER, *PAID, CANCEL, "choreo.CompensationFailed").then(status="stuck").when("PaymentRefunded")
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "undone"}, status="compensating")
    story = given(
        ORDER,
        *PAID,
        CANCEL,
        "choreo.CompensationFailed",
        event("choreo.CompensationRetryRequested", step="payment.charge"),
    )
    story.when(event("PaymentRefunded", round=1)).then(
        ledger={"stock.reserve": "requested", "payment.charge": "undone"}
    )


def _entry_of(story: object, place: int) -> str:
    return story.runs[0].ledger[place].id  # type: ignore[attr-defined]


def test_a_foreign_undo_closes_the_newest_entry_it_can_be_about() -> None:
    """A refund made by hand in another system, which knows only the key."""
    story = given(ORDER, *PAID, CANCEL).when(foreign("PaymentRefunded")).then(undo("stock.reserve"))
    story.when(foreign("PaymentRefunded")).then_nothing()
    assert story.state.orphans == [len(story.log) - 1]


def test_an_answer_of_an_earlier_round_does_not_settle_the_present_one() -> None:
    """NothingToCompensate and CompensationFailed are about their round."""
    story = given(
        ORDER, *DOUBTED, "choreo.CompensationFailed", event("choreo.CompensationRetryRequested", step="payment.charge")
    )
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open in doubt"})
    story.when("StockReleased").then(undo("payment.charge", round=2))
    story.when(event("choreo.NothingToCompensate", step="payment.charge", round=1, id="old"))
    story.when(event("choreo.CompensationFailed", step="payment.charge", round=1, id="older"))
    story.then_nothing().then(ledger={"stock.reserve": "undone", "payment.charge": "requested in doubt"})


def test_an_undo_that_failed_for_good_leaves_the_run_stuck_and_the_next_goes_on() -> None:
    """Stuck is a status while the other undos go on; it is published once, with the cause."""
    story = given(ORDER, *PAID, CANCEL).when(event("choreo.CompensationFailed", reason="the bank refuses"))
    story.then(
        undo("stock.reserve"), event("choreo.FlowStuck", reason="payment.charge: the bank refuses"), status="stuck"
    )
    story.when("StockReleased").then_nothing()
    story.then(status="stuck", ledger={"stock.reserve": "undone", "payment.charge": "failed"})


def test_every_undo_request_has_a_deadline_from_its_own_stamp() -> None:
    """Nobody answers: the entry is failed, the run stuck, the next entry goes on."""
    story = given(PICKED, *PAID).when(CANCEL, elapsed("59m")).when(elapsed("1m"))
    story.then("choreo.CompensationDeadlinePassed", undo("stock.reserve"), "choreo.FlowStuck", status="stuck")
    assert story.runs[0].ledger[1].cause == "its undo gave no answer within 1h"


def test_the_deadline_of_an_undo_does_not_run_before_its_request_is_read() -> None:
    """A request that lies in an outbox for a day has its whole hour when it stands in the log."""
    story = given(PICKED, *PAID, CANCEL, read_back=False).when(elapsed("1d")).then_nothing()
    story.read_back().when(elapsed("59m")).then_nothing().when(elapsed("1m")).then("choreo.CompensationDeadlinePassed")


def test_a_failure_of_an_undo_after_its_deadline_changes_nothing() -> None:
    """The entry is failed already; its cause stays."""
    story = given(PICKED, *PAID, CANCEL, elapsed("1h")).when(event("choreo.CompensationFailed", step="payment.charge"))
    story.then_nothing()
    assert story.runs[0].ledger[1].cause == "its undo gave no answer within 1h"


def test_an_answer_after_the_deadline_still_counts() -> None:
    """Nothing was there, or it is undone: a stuck run with no failed entry left goes on to compensated."""
    story = given(ORDER, *DOUBTED, elapsed("1h"), "StockReleased").then(status="stuck")
    story.when(event("choreo.NothingToCompensate", step="payment.charge")).then(status="compensated")
    story = given(PICKED, *PAID, CANCEL, elapsed("1h"), "StockReleased").then(status="stuck")
    story.when("PaymentRefunded").then("OrderCancelled", "choreo.FlowCompensated", status="compensated")


def test_a_late_success_that_finds_its_undo_past_its_deadline_waits_for_the_answer() -> None:
    """The first request may still be worked on; when it answers nothing a round with the outcome follows."""
    story = given(ORDER, *DOUBTED, elapsed("1h"), "PaymentCharged").then(status="stuck")
    story.when("StockReleased", event("choreo.NothingToCompensate", step="payment.charge"))
    story.then(undo("payment.charge", round=2, outcome=story.offset_of("PaymentCharged")))


def test_an_undo_whose_compensation_is_declared_no_longer_ends_stuck() -> None:
    """Nobody could answer; the request's time is up at once."""
    story = given(ORDER, *PAID)
    story.table = type(story.table)(but(ORDER, payment__charge=replace(CHARGE, compensation=None)))
    story.when(CANCEL).then(status="stuck", ledger={"stock.reserve": "requested", "payment.charge": "failed"})
    story = given(ORDER, *PAID, read_back=False).when(CANCEL)
    story.table = type(story.table)(but(ORDER, payment__charge=replace(CHARGE, compensation=None)))
    story.read_back().when(elapsed(0)).then("choreo.CompensationDeadlinePassed")


def test_a_run_that_is_stuck_twice_says_so_twice() -> None:
    """An operator's retry failed too: the fact is published again."""
    story = given(ORDER, *PAID, CANCEL, "choreo.CompensationFailed", "StockReleased")
    story.when(event("choreo.CompensationRetryRequested", step="payment.charge")).then(undo("payment.charge", round=2))
    story.then(status="compensating").when("choreo.CompensationFailed").then(
        event("choreo.FlowStuck", n=1), status="stuck"
    )


def test_far_off_retries_do_not_hold_the_end_of_a_turned_run() -> None:
    """A retry due tomorrow is woken when compensation starts; its host skips it."""
    patient = replace(RESERVE, on="OrderPlaced", name="slow.reserve", service="slow", emits=("SlowReserved",), fails=())
    patient = replace(
        patient, retry=replace(patient.retry, initial_ms=HOUR_MS // 2, interval_max_ms=HOUR_MS), compensation=None
    )
    waiting = flow(RESERVE, CHARGE, patient, step("mail.confirm", "PaymentCharged", "OrderConfirmed"))
    story = given(waiting, "OrderPlaced", event("choreo.StepAttemptFailed", step="slow.reserve", attempt=1))
    story.when("StockRejected").then("choreo.CompensationStarted").when(elapsed("1s"))
    story.then(event("choreo.StepRetryDue", step="slow.reserve"))
    story.when(event("choreo.StepSkipped", step="slow.reserve", certain=False)).then(status="compensated")


# The outbox.


def test_a_decision_stays_in_the_state_until_it_is_read_back() -> None:
    """Any crash between state write, send and commit loses nothing."""
    story = given(ORDER, *PAID, read_back=False).when(CANCEL)
    assert [fact.type for fact in story.runs[0].outbox] == [
        "choreo.CompensationStarted",
        "choreo.CompensationRequested",
    ]
    story.when(story.unread[0])
    assert [fact.type for fact in story.runs[0].outbox] == ["choreo.CompensationRequested"]
    story.when(story.unread[1], story.unread[1])
    assert story.runs[0].outbox == []


def test_a_terminated_run_has_nothing_more_to_say() -> None:
    """An undo that was decided and not yet sent is not sent after the run was ended by hand."""
    story = given(ORDER, *PAID, CANCEL, read_back=False).when(event("choreo.FlowTerminated", reason="test order"))
    story.then_nothing().then(status="terminated", cause="test order")
    assert story.runs[0].outbox == []
    assert not story.state.unacknowledged


def test_a_decision_continues_the_trace_of_the_event_that_led_to_it() -> None:
    """An undo shows up in the trace of the failure."""
    story = given(ORDER, "OrderPlaced", "StockReserved").when(event("PaymentDeclined", traceparent="00-a-b-01"))
    assert {fact.traceparent for fact in story.published} == {"00-a-b-01"}
