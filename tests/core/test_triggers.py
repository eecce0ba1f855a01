"""A step with more than one trigger: each is expected, one of a step on no cycle gets the slot."""

from __future__ import annotations

import pytest

from choreo.core import ids
from choreo.testing import elapsed, event, foreign, given, undo
from tests.core.order import ORDER, PICKED, but
from tests.core.plain import with_undo

PAID = ("OrderPlaced", "StockReserved", "PaymentCharged")


def test_each_trigger_of_a_step_makes_it_expected() -> None:
    """Which of two gets the one slot of a step on no cycle, only the host knows: it ignores the other."""
    story = given(ORDER, "OrderPlaced", foreign("StockReserved"), foreign("StockReserved"))
    story.then(expected=["payment.charge", "payment.charge"])
    first, second = (expected.trigger for expected in story.runs[0].expected)
    assert first != second
    story.when(event("choreo.TriggerIgnored", step="payment.charge", causation=first)).then(expected=["payment.charge"])
    story.when(event("PaymentDeclined", causation=second)).then("choreo.CompensationStarted", undo("stock.reserve"))


@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize("answer", ["charged", "declined", "failed", "ignored first"])
def test_whichever_trigger_gets_the_slot_the_run_ends(winner: int, answer: str) -> None:
    """There is one entry for both, the loser is settled when it is ignored, and nothing is left expected."""
    story = given(ORDER, "OrderPlaced", "StockReserved", foreign("StockReserved"))
    triggers = [expected.trigger for expected in story.runs[0].expected]
    ignored = event("choreo.TriggerIgnored", step="payment.charge", causation=triggers[1 - winner])
    about = {"step": "payment.charge", "causation": triggers[winner]}
    log_text = {
        "charged": [event("PaymentCharged", **about), ignored],
        "ignored first": [ignored, event("PaymentCharged", **about)],
        "declined": [event("PaymentDeclined", **about), ignored],
        "failed": [event("choreo.StepFailed", **about), ignored],
    }[answer]
    story.when(*log_text)
    if answer == "failed":
        story.when("PaymentRefunded")
    if answer in ("declined", "failed"):
        story.when("StockReleased").then(status="compensated", expected=[])
    else:
        story.then(ledger={"stock.reserve": "open", "payment.charge": "open"}, expected=["mail.confirm"])
        story.when("OrderConfirmed").then(status="completed")


def test_a_trigger_that_was_set_aside_leaves_the_slot_to_another() -> None:
    """The second one begins, is put off, and is called for: what it left is in doubt once it is given up."""
    story = given(ORDER, "OrderPlaced", "StockReserved", foreign("StockReserved"))
    second = story.runs[0].expected[1].trigger
    story.when(event("choreo.StepFailed", step="payment.charge", certain=True, causation=story.log[1].event.id))
    story.then(expected=["payment.charge"])
    story.when(event("choreo.StepAttemptFailed", step="payment.charge", trigger=second, attempt=1))
    story.when(elapsed("1s")).then("choreo.StepRetryDue")
    story.when(event("choreo.StepSkipped", step="payment.charge", causation=second, certain=False))
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open in doubt"})


def test_a_step_on_no_cycle_has_one_effect_a_run() -> None:
    """A host that lost its inbox handles a second trigger under the same key: there is one charge to refund."""
    story = given(PICKED, *PAID, foreign("StockReserved"))
    about = {"step": "payment.charge", "causation": ids.foreign("order", 0, 3)}
    story.when(event("PaymentCharged", id="again", **about)).then(
        ledger={"stock.reserve": "open", "payment.charge": "open"}
    )
    story.when("choreo.CancelRequested").when(event("choreo.StepSkipped", certain=False, **about))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested"})
    story.when("PaymentRefunded", "StockReleased").then(status="compensated")


def test_a_certain_failure_of_one_trigger_says_nothing_of_the_other() -> None:
    """Both were in doubt at the deadline: the one that is settled leaves the doubt about the other."""
    deaf = but(ORDER, payment__charge=with_undo(bars=False))
    story = given(deaf, "OrderPlaced", "StockReserved", foreign("StockReserved"))
    first, second = (expected.trigger for expected in story.runs[0].expected)
    story.when(elapsed("2h"), "StockReleased").then(status="stuck")
    story.when(event("PaymentDeclined", causation=first)).then(status="stuck")
    story.when(event("PaymentDeclined", causation=second)).then(status="compensated")
