"""Waits with several answers: the first one counts, a refusal compensates, a time-out fails the run or goes on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.testing.given import elapsed, event, foreign, given, undo
from tests.core.plain import HOUR_MS, flow, published, step

FILE = step("claims.file", "OrderPlaced", "ClaimFiled", undone="ClaimWithdrawn")
PAY = step("claims.pay", "Approved", "OrderConfirmed", effect=False, any_of=("Approved", "AutoApproved"))
PAY = replace(PAY, deadline_ms=9 * HOUR_MS)
CLOSE = step("claims.close", "Expired", "ClaimClosed", effect=False)
APPROVAL = WaitDefinition(
    "wait.approval",
    on="ClaimFiled",
    until="Approved",
    timeout_ms=HOUR_MS,
    fails="",
    also=("AutoApproved",),
    refused="Rejected",
    then="Expired",
)
CLAIM = flow(
    FILE,
    PAY,
    CLOSE,
    waits=(APPROVAL,),
    completes="OrderConfirmed",
    outcomes={"OrderConfirmed": "paid", "ClaimClosed": "expired"},
)


@pytest.mark.parametrize("answer", ["Approved", "AutoApproved"])
def test_the_first_answer_satisfies_the_wait(answer: str) -> None:
    """The other one that comes after it changes nothing."""
    scenario = given(CLAIM, "OrderPlaced", "ClaimFiled").then(waits=["Approved or AutoApproved"])
    other = {"Approved": "AutoApproved"}.get(answer, "Approved")
    scenario.when(foreign(answer)).then(expected=["claims.pay"], waits=[])
    scenario.when(foreign(other)).then_nothing().then(expected=["claims.pay"])
    scenario.when("OrderConfirmed").then(facts.FLOW_COMPLETED, status="completed")
    assert scenario.runs[0].completed_by == "OrderConfirmed"


def test_an_early_answer_counts_when_the_wait_opens() -> None:
    """Of several the one that came first, whichever it is."""
    scenario = given(CLAIM, "OrderPlaced", foreign("AutoApproved"), foreign("Rejected")).then(waits=[])
    scenario.when("ClaimFiled").then(expected=["claims.pay"], status="running")
    refused = given(CLAIM, "OrderPlaced", foreign("Rejected"), foreign("Approved")).when("ClaimFiled")
    refused.then(facts.COMPENSATION_STARTED, undo("claims.file"), status="compensating")


def test_a_refusal_compensates_the_run_with_its_cause() -> None:
    """A business "no" from outside needs no step that raises."""
    scenario = given(CLAIM, "OrderPlaced", "ClaimFiled").when(foreign("Rejected"))
    scenario.then(facts.COMPENSATION_STARTED, undo("claims.file"), cause="refused from outside: Rejected", waits=[])
    scenario.when("ClaimWithdrawn").then(status="compensated")


def test_a_time_out_goes_on_with_its_own_event() -> None:
    """Never early; the run completes with the outcome of that way."""
    scenario = given(CLAIM, "OrderPlaced", "ClaimFiled").when(elapsed("59m")).then_nothing()
    scenario.when(elapsed("1m")).then("Expired", expected=["claims.close"], waits=[], status="running")
    scenario.when("ClaimClosed").then(facts.FLOW_COMPLETED, status="completed")
    assert scenario.runs[0].completed_by == "ClaimClosed"


def test_an_answer_after_the_time_out_changes_nothing() -> None:
    """The wait is over; so is a time-out that is read after an answer."""
    late = given(CLAIM, "OrderPlaced", "ClaimFiled", elapsed("1h")).when(foreign("Approved"))
    late.then_nothing().then(expected=["claims.close"])
    scenario = given(CLAIM, "OrderPlaced", "ClaimFiled").when(foreign("Approved"))
    opened = scenario.log[scenario.offset_of("ClaimFiled")]
    too_late = event(
        "Expired", step="wait.approval", trigger=opened.event.id, due_ms=opened.stamp_ms + HOUR_MS, id="late"
    )
    scenario.when(elapsed("2h"), too_late).then(expected=["claims.pay"])


def test_the_time_out_counts_no_pause() -> None:
    """It moves by the length of the pause."""
    scenario = given(CLAIM, "OrderPlaced", "ClaimFiled", facts.FLOW_PAUSED, elapsed("2h")).then(status="paused")
    scenario.when(facts.FLOW_RESUMED, elapsed("50m")).then_nothing()
    scenario.when(elapsed("10m")).then("Expired", expected=["claims.close"])


def test_a_time_out_may_open_the_next_wait() -> None:
    """Hops count on through it."""
    second = WaitDefinition("wait.second", "Expired", "Called", HOUR_MS, "GivenUp")
    pay = step("claims.pay", "Approved", "OrderConfirmed", effect=False, any_of=("Approved", "AutoApproved", "Called"))
    claim = flow(FILE, pay, waits=(APPROVAL, second))
    scenario = given(claim, "OrderPlaced", "ClaimFiled", elapsed("1h")).then(waits=["Called"], expected=[])
    expired = scenario.log[scenario.offset_of("Expired")].event
    assert expired.hops == scenario.log[scenario.offset_of("ClaimFiled")].event.hops + 1
    scenario.when(foreign("Called")).then(expected=["claims.pay"])


def claim_with(**changes: object) -> FlowDefinition:
    """Return the claim with its wait changed."""
    return flow(FILE, PAY, CLOSE, waits=(replace(APPROVAL, **changes),), outcomes=CLAIM.outcomes)


MISTAKES = {
    "no time-out": (claim_with(then=""), "its time-out has no event. Name one: fails= compensates the run"),
    "two time-outs": (claim_with(fails="Late"), "its time-out has both fails= and then=. Name one"),
    "twice": (claim_with(also=("Approved",)), "wait.approval: names Approved twice. Name it once"),
    "refused twice": (claim_with(refused="AutoApproved"), "names AutoApproved twice. Name it once"),
    "two waits": (
        flow(FILE, PAY, waits=(APPROVAL, WaitDefinition("wait.b", "ClaimFiled", "Approved", HOUR_MS, "Late"))),
        "event Approved: it is the outside event of wait.approval and the outside event of wait.b. One event answers",
    ),
    "ends on a refusal": (
        flow(FILE, PAY, waits=(APPROVAL,), completes="Rejected"),
        "completes on Rejected, which only a failure brings about",
    ),
    "time-out with fields": (
        flow(FILE, PAY, CLOSE, waits=(APPROVAL,), events={"Expired": ("order_id", "amount")}),
        "event Expired: the tracker publishes it when wait.approval times out and cannot fill in amount",
    ),
}


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_wait_that_cannot_work_is_a_mistake(wrong: FlowDefinition, sentence: str) -> None:
    """Each with the place and the remedy."""
    assert any(sentence in found for found in published("error", wrong)), published("error", wrong)


def test_a_time_out_that_leads_nowhere_is_warned_of() -> None:
    """A run that comes there would never complete."""
    nowhere = flow(FILE, PAY, waits=(APPROVAL,))
    assert any("goes on with Expired, to which no step reacts" in found for found in published("warning", nowhere))
    assert published("error", CLAIM) == []


TRIAL = WaitDefinition("timer.trial", "ClaimFiled", "Cancelled", 24 * HOUR_MS, "", then="TrialEnded")
BILL = step("bill.send", "TrialEnded", "OrderConfirmed", effect=False)
GOODBYE = step("bill.close", "Cancelled", "Closed", effect=False)
SUBSCRIPTION = flow(FILE, BILL, GOODBYE, waits=(TRIAL,), outcomes={"OrderConfirmed": "billed", "Closed": "left"})


def test_a_timer_goes_on_with_its_event_when_its_time_is_over() -> None:
    """Never early; the run is open until then, and shows the timer by its name."""
    scenario = given(SUBSCRIPTION, "OrderPlaced", "ClaimFiled").then(waits=["timer.trial"], expected=[])
    scenario.when(elapsed("23h")).then_nothing()
    scenario.when(elapsed("1h")).then("TrialEnded", expected=["bill.send"], waits=[])
    scenario.when("OrderConfirmed").then(facts.FLOW_COMPLETED, status="completed")


def test_a_timer_that_is_cancelled_publishes_nothing() -> None:
    """The event that cancels it goes on in its own way."""
    scenario = given(SUBSCRIPTION, "OrderPlaced", "ClaimFiled").when(foreign("Cancelled"))
    scenario.then(expected=["bill.close"], waits=[]).when("Closed").then(facts.FLOW_COMPLETED)
    scenario.when(elapsed("30d")).then_nothing().then(status="completed")


def test_a_timer_that_nothing_cancels_needs_no_event_from_outside() -> None:
    """It is a delay: of one step after the other."""
    delay = flow(FILE, BILL, waits=(replace(TRIAL, until=""),))
    assert published("error", delay) == published("warning", delay) == []
    scenario = given(delay, "OrderPlaced", "ClaimFiled", elapsed("1d")).then(expected=["bill.send"])
    scenario.when("OrderConfirmed").then(facts.FLOW_COMPLETED)
