"""A step that succeeds after it was given up is undone too, in any order of the log."""

from __future__ import annotations

import pytest

from choreo.core import facts
from choreo.core.events import Envelope
from choreo.testing import Scenario, duplicate, elapsed, event, given, undo
from tests.core.order import ORDER, WIDE

DOUBTED = ("OrderPlaced", "StockReserved", elapsed("1h"))
"""The payment gave no outcome: compensation starts, and its undo is requested in doubt."""


def test_a_late_success_before_its_undo_is_asked_for_makes_its_entry_certain() -> None:
    """It waits behind another undo: when its turn comes the request carries the outcome."""
    story = given(WIDE, "OrderPlaced", "StockReserved", event("choreo.StepFailed", step="payment.charge"))
    story.when(event("choreo.StepFailed", step="labels.print"))
    story.then(
        ledger={"stock.reserve": "open", "payment.charge": "requested in doubt", "labels.print": "open in doubt"}
    )
    story.when(event("LabelPrinted", id="late")).then(
        ledger={"stock.reserve": "open", "payment.charge": "requested in doubt", "labels.print": "open"}
    )
    story.when("choreo.NothingToCompensate").then(undo("labels.print", outcome=story.offset_of("LabelPrinted")))


def test_a_late_success_is_absorbed_by_an_undo_that_answers_with_its_event() -> None:
    """Read before the answer or after it: the refund stands for both."""
    story = given(ORDER, *DOUBTED).when("PaymentCharged").then_nothing()
    story.when("PaymentRefunded").then(ledger={"stock.reserve": "requested", "payment.charge": "undone"})
    story = given(ORDER, *DOUBTED).when("PaymentRefunded", "PaymentCharged")
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "undone"})


def test_a_late_success_before_the_answer_nothing_opens_a_new_round() -> None:
    """The undo barred a key that had been used: what it did not find is there."""
    story = given(ORDER, *DOUBTED, "PaymentCharged").when("choreo.NothingToCompensate")
    story.then(undo("payment.charge", round=2, n=1, outcome=story.offset_of("PaymentCharged")))
    story.when("PaymentRefunded", "StockReleased").then(status="compensated")


def test_a_late_success_after_the_answer_nothing_opens_a_new_round() -> None:
    """The entry was settled; it is opened again, newer than the stock."""
    story = given(ORDER, *DOUBTED, "choreo.NothingToCompensate").when("PaymentCharged").then_nothing()
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open"})
    story.when("StockReleased").then(undo("payment.charge", round=2, n=1))


def test_a_late_success_opens_a_compensated_run_again() -> None:
    """It has something to undo, and ends a second time, with the next number."""
    story = given(ORDER, *DOUBTED, "choreo.NothingToCompensate", "StockReleased").then(status="compensated")
    story.when("PaymentCharged").then(undo("payment.charge", round=2), status="compensating")
    story.when("PaymentRefunded").then(event("choreo.FlowCompensated", n=1), status="compensated")


def test_a_success_nobody_expected_opens_a_compensated_run_too() -> None:
    """A step that was skipped for certain, and yet succeeded somewhere: a zombie's effect is undone like any other."""
    skipped = event("choreo.StepSkipped", step="labels.print")
    story = given(WIDE, "OrderPlaced", "StockReserved", "PaymentDeclined", "StockReleased", skipped)
    story.then(status="compensated").when(event("LabelPrinted", id="zombie")).then(undo("labels.print"))


def test_an_end_that_finds_the_run_open_again_ends_nothing() -> None:
    """A late success stands before FlowCompensated in the log: the next FlowCompensated has the next number."""
    story, ending = _about_to_end()
    story.when(event("LabelPrinted", id="zombie")).then(undo("labels.print"))
    story.when(ending).then_nothing().then(status="compensating")
    story.when("LabelVoided").then(event("choreo.FlowCompensated", n=1), status="compensating")
    story.read_back().then(status="compensated")


def test_an_end_overtaken_by_an_entry_opened_and_closed_ends_the_run_after_all() -> None:
    """Between the decision and its fact a late success came and was undone: nothing is left."""
    story, ending = _about_to_end()
    story.when(event("LabelPrinted", id="zombie"), "LabelVoided").then(undo("labels.print"))
    story.when(ending).then(status="compensated")


def _about_to_end() -> tuple[Scenario, Envelope]:
    """Return a run that has published FlowCompensated and not read it."""
    story = given(WIDE, "OrderPlaced", "StockReserved", "PaymentDeclined", read_back=False)
    story.when(event("choreo.StepSkipped", step="labels.print"), "StockReleased")
    ending = story.unread.pop()
    assert ending.type == facts.FLOW_COMPENSATED
    return story.read_back(), ending


def test_an_old_end_read_once_more_does_not_end_a_run_that_was_opened_again() -> None:
    """The duplicate of number 0 is not the end with number 1."""
    story = given(ORDER, *DOUBTED, "choreo.NothingToCompensate", "StockReleased", "PaymentCharged")
    story.when(duplicate("choreo.FlowCompensated")).then_nothing().then(status="compensating")
    story.when("PaymentRefunded").then(event("choreo.FlowCompensated", n=1), status="compensated")


@pytest.mark.parametrize("end", ["choreo.FlowCompleted", "choreo.FlowTerminated"])
def test_a_late_success_opens_no_completed_or_terminated_run(end: str) -> None:
    """Its effect is recorded; nothing is undone."""
    ending = ("PaymentCharged", "OrderConfirmed", "LabelPrinted") if end == facts.FLOW_COMPLETED else (end,)
    story = given(WIDE, "OrderPlaced", "StockReserved", *ending).when(event("LabelPrinted", id="late"))
    story.then_nothing().then(status="completed" if end == facts.FLOW_COMPLETED else "terminated")
    assert "labels.print" in {entry.step for entry in story.runs[0].ledger}


def test_a_success_after_it_was_resolved_by_hand_makes_the_run_stuck() -> None:
    """Only a person knows whether it was undone by hand: the run is stuck again, and an operator decides anew."""
    resolved = event("choreo.CompensationResolved", step="payment.charge", reason="no charge at the bank")
    story = given(ORDER, *DOUBTED, "choreo.CompensationFailed", resolved, "StockReleased").then(status="compensated")
    story.when("PaymentCharged").then("choreo.FlowStuck", status="stuck")
    story.then(ledger={"stock.reserve": "undone", "payment.charge": "failed"})
    assert story.runs[0].ledger[1].cause == "it succeeded after it was resolved by hand: look whether it is undone"
    story.when(duplicate("choreo.CompensationResolved")).then_nothing().then(status="stuck")
    story.when(event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.then(undo("payment.charge", outcome=story.offset_of("PaymentCharged")))
    story.when("PaymentRefunded").then(status="compensated")


def test_a_failure_that_is_certain_settles_the_doubt_when_its_undo_fails_too() -> None:
    """It was read while the undo was under way, which might have answered."""
    story = given(ORDER, *DOUBTED).when("PaymentDeclined")
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})
    story.when("choreo.CompensationFailed").then(ledger={"stock.reserve": "requested", "payment.charge": "nothing"})


def test_each_answer_nothing_is_counted_once_whatever_its_round() -> None:
    """The key of an undo derives from the number of answers that were read: a gateway answers a new key anew."""
    story = given(ORDER, *DOUBTED, elapsed("1h"), event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.when("StockReleased").then(undo("payment.charge", round=2, n=0))
    late = event("choreo.NothingToCompensate", step="payment.charge", round=1, id="late")
    story.when(late, duplicate("choreo.NothingToCompensate"), "PaymentCharged", "choreo.CompensationFailed")
    story.when(event("choreo.CompensationRetryRequested", step="payment.charge"))
    story.then(undo("payment.charge", round=3, n=1))
