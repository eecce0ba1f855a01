"""Baggage and trace context of a run: the tracker's events carry the headers that the run has by then."""

from __future__ import annotations

from typing import Any

from choreo.core import facts
from choreo.core.baggage import Carried
from choreo.core.crossing import crossings
from choreo.core.definition import ChildrenDefinition, WaitDefinition
from choreo.testing.given import Scenario, child_ended, children, elapsed, event, given
from tests.core.plain import CHARGE, CONFIRM_PICKED, HOUR_MS, PICK, RESERVE, STEPS, flow, step
from tests.core.test_joins import BOOKED, TRIP
from tests.core.test_reminders import CLAIM

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-01"
ORDER = flow(*STEPS)
GATED = flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(PICK,))


def start(**headers: Any) -> Any:
    """Return the start of a run that carries something."""
    return event("OrderPlaced", **{"baggage": "tenant=a", "traceparent": TRACE, "tracestate": "x=1", **headers})


def carried(story: Scenario) -> set[Carried]:
    """Return the headers of the tracker's events since the last `when`."""
    return {Carried(fact.baggage, fact.traceparent, fact.tracestate) for fact in story.published}


def expected(story: Scenario, name: str) -> Carried | None:
    """Return the headers that the attempts of an expected step get."""
    return next(each.carried for each in story.runs[0].expected if each.step == name)


def test_facts_carry_what_the_run_carries() -> None:
    """Also after an event that names nothing, such as an operator's."""
    story = given(ORDER, start(), event("StockReserved", baggage="tenant=a,zone=b")).when(
        event(facts.CANCEL_REQUESTED, reason="no")
    )
    assert {fact.type for fact in story.published} == {facts.COMPENSATION_STARTED, facts.COMPENSATION_REQUESTED}
    assert carried(story) == {Carried("tenant=a,zone=b", TRACE, "x=1")}
    story.when("StockReleased", event(facts.STEP_SKIPPED, step="payment.charge", certain=True))
    assert carried(story) == {Carried("tenant=a,zone=b", TRACE, "x=1")}


def test_a_run_without_baggage_has_no_state_of_it() -> None:
    """Nothing is stored, and the facts carry nothing."""
    story = given(ORDER, "OrderPlaced", "StockReserved").when("PaymentDeclined")
    assert story.runs[0].carried is None
    assert carried(story) == {Carried()}


def test_a_retry_and_a_timer_carry_it() -> None:
    """A retry carries its trigger's headers, also if the run's have changed meanwhile."""
    story = given(TRIP, start(), event(facts.STEP_ATTEMPT_FAILED, step="flight.book"))
    story.when(event("HotelBooked", baggage="tenant=b"), elapsed("1s"))
    (due,) = [fact for fact in story.published if fact.type == facts.STEP_RETRY_DUE]
    assert Carried(due.baggage, due.traceparent, due.tracestate) == Carried("tenant=a", TRACE, "x=1")
    story.when(elapsed("1h"))
    late = next(fact for fact in story.published if fact.type == facts.STEP_DEADLINE_PASSED)
    assert (late.baggage, late.traceparent) == ("tenant=b", TRACE)


def test_a_retry_of_a_compensation_carries_what_its_request_carried() -> None:
    """Each attempt has the same, also if a late success has brought the run other headers meanwhile."""
    story = given(ORDER, start(), event("StockReserved")).when(event(facts.CANCEL_REQUESTED, traceparent=OTHER))
    (request,) = [fact for fact in story.published if fact.type == facts.COMPENSATION_REQUESTED]
    about = {"step": "stock.reserve", "entry": request.entry, "round": 1, "attempt": 1}
    story.when(event("PaymentCharged", baggage="tenant=b"), event(facts.STEP_ATTEMPT_FAILED, **about), elapsed("1h"))
    retries = [record.event for record in story.log if record.event.type == facts.STEP_RETRY_DUE]
    assert [Carried(each.baggage, each.traceparent, each.tracestate) for each in retries] == [
        Carried(request.baggage, request.traceparent, request.tracestate)
    ]
    assert request.traceparent == OTHER


def test_a_step_that_was_held_gets_its_triggers_headers() -> None:
    """The resume has none of its own."""
    story = given(ORDER, start(), facts.FLOW_PAUSED, event(facts.STEP_HELD, step="stock.reserve")).when(
        facts.FLOW_RESUMED
    )
    assert carried(story) == {Carried("tenant=a", TRACE, "x=1")}


def test_a_step_behind_a_wait_gets_what_opened_it() -> None:
    """Beside the headers of the event from outside: in log order the later counts. The trace is the event's, if any."""
    late = given(GATED, start(), "StockReserved", event("PaymentCharged", baggage="n=1,m=1"))
    late.when(event("Picked", baggage="n=2", traceparent=OTHER))
    assert expected(late, "mail.confirm") == Carried("m=1,n=2", OTHER, "")
    early = given(GATED, start(), event("Picked", baggage="n=2,m=2"), "StockReserved")
    early.when(event("PaymentCharged", baggage="n=1", traceparent=TRACE))
    assert expected(early, "mail.confirm") == Carried("m=2,n=1", TRACE, "")
    assert late.when("OrderConfirmed").published[0].baggage == "tenant=a,m=1,n=2"


def test_a_join_merges_its_members_in_log_order() -> None:
    """The later of two values counts, and the trigger's trace."""
    for order in (BOOKED, BOOKED[::-1]):
        story = given(TRIP, start())
        for number, type_ in enumerate(order):
            story.when(event(type_, baggage=f"last={number},{type_}=1", traceparent=TRACE if number < 2 else OTHER))
        headers = expected(story, "mail.confirm")
        assert headers is not None
        assert set(headers.baggage.split(",")) == {"last=2", *(f"{type_}=1" for type_ in BOOKED)}
        assert headers.traceparent == OTHER


def test_a_time_out_that_goes_on_carries_it() -> None:
    """`then=` is an event of the tracker."""
    wait = WaitDefinition("wait.Picked", "StockReserved", "Picked", HOUR_MS, "", then="NobodyCame")
    close = step("mail.close", "NobodyCame", "OrderConfirmed", effect=False)
    story = given(flow(RESERVE, close, waits=(wait,)), start(), event("StockReserved", baggage="zone=b"))
    story.when(elapsed("1h"))
    assert (story.published[0].type, story.published[0].baggage) == ("NobodyCame", "tenant=a,zone=b")
    assert expected(story, "mail.close") == Carried("tenant=a,zone=b", TRACE, "x=1")


def test_reminders_and_escalations_carry_it() -> None:
    """As the run has it at their moment; the steps on them get the same."""
    story = given(CLAIM, start(), event("Filed", baggage="filed=1"))
    story.when(elapsed("1d"))
    assert {(fact.type, fact.baggage, fact.traceparent) for fact in story.published} == {
        ("Reminded", "tenant=a,filed=1", TRACE)
    }
    assert expected(story, "mail.remind") == Carried("tenant=a,filed=1", TRACE, "x=1")
    story.when(elapsed("2d"))
    assert {fact.baggage for fact in story.published} == {"tenant=a,filed=1"}
    assert {"Escalated", "Reminded"} <= {fact.type for fact in story.published}


def test_the_trackers_own_event_never_takes_the_run_back() -> None:
    """A fact that was made before the newest event, and is read after it, changes nothing."""
    story = given(TRIP, start(), "FlightBooked", "HotelBooked", read_back=False)
    story.when("FlightFull", event("CarBooked", baggage="tenant=b")).read_back()
    assert story.runs[0].carried == Carried("tenant=b", TRACE, "x=1")


def test_children_get_it_and_give_back_what_they_have() -> None:
    """The order to start them carries it, and the join's event the headers of their ends."""
    split = step(
        "parcels.split",
        "OrderPlaced",
        "OrderConfirmed",
        children=ChildrenDefinition("parcel"),
    )
    story = given(flow(split), start()).when(children("parcels.split", 1))
    (due,) = [fact for fact in story.published if fact.type == facts.CHILDREN_DUE]
    assert (due.baggage, due.traceparent) == ("tenant=a", TRACE)
    plan = next(record.event for record in story.log if record.event.type == facts.CHILDREN_PLANNED)
    assert {one.baggage for one in crossings(due, plan)} <= {"tenant=a"}
    ended = child_ended("parcels.split", 0)
    ended.fields["baggage"] = "carrier=fast"
    story.when(ended)
    assert story.published[0].type == "OrderConfirmed"
    assert story.published[0].baggage == "tenant=a,carrier=fast"
