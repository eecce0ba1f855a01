"""Joins: a step that needs several events starts with the one that completes the set, whatever their order."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import ParameterDefinition, WaitDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.gates import NEEDED_MAX, Gates, Outside, Triggered, came, reads_of
from choreo.testing.given import elapsed, event, given, undo
from tests.core.plain import HOUR_MS, flow, published, step
from tests.core.plain import undo as undone

FLIGHT = step("flight.book", "OrderPlaced", "FlightBooked", fails="FlightFull", undone="FlightCancelled")
HOTEL = step("hotel.book", "OrderPlaced", "HotelBooked", fails="HotelFull", undone="HotelCancelled")
CAR = step("car.book", "OrderPlaced", "CarBooked", undone="CarCancelled")
BOOKED = ("FlightBooked", "HotelBooked", "CarBooked")
CONFIRM = step("mail.confirm", "FlightBooked", "OrderConfirmed", effect=False, all_of=BOOKED)
TRIP = flow(FLIGHT, HOTEL, CAR, CONFIRM)


@pytest.mark.parametrize("order", list(permutations(BOOKED)), ids="-".join)
def test_a_join_starts_with_the_event_that_completes_it(order: tuple[str, ...]) -> None:
    """In every order; before that the step is not expected."""
    scenario = given(TRIP, "OrderPlaced").when(*order[:2])
    assert "mail.confirm" not in [expected.step for expected in scenario.runs[0].expected]
    scenario.when(order[2]).then(expected=["mail.confirm"])
    last = scenario.log[scenario.offset_of(order[2])].event
    assert scenario.runs[0].expected[0].trigger == last.id
    scenario.when("OrderConfirmed").then(facts.FLOW_COMPLETED, status="completed")


def test_a_branch_that_fails_keeps_the_join_from_starting() -> None:
    """Booked effects are undone, newest first."""
    scenario = given(TRIP, "OrderPlaced", "CarBooked", "HotelBooked").when("FlightFull")
    scenario.then(facts.COMPENSATION_STARTED, undo("hotel.book"), status="compensating", expected=[])
    scenario.when("HotelCancelled", "CarCancelled").then(status="compensated")


def test_an_event_that_comes_twice_completes_nothing() -> None:
    """A join takes one event of each type: a second one of a type it has stands for no other."""
    scenario = given(TRIP, "OrderPlaced", "CarBooked", "HotelBooked").when(event("HotelBooked", id="again"))
    scenario.then(expected=["flight.book"])
    scenario.when("FlightBooked").then(expected=["mail.confirm"])


def test_a_step_on_any_of_several_starts_with_the_first_of_them() -> None:
    """Its host answers the second with TriggerIgnored."""
    pay = step("pay.any", "CardGiven", "OrderConfirmed", effect=False, any_of=("CardGiven", "InvoiceAsked"))
    ask = step("ask.how", "OrderPlaced", "CardGiven", "InvoiceAsked", effect=False)
    for way in ("CardGiven", "InvoiceAsked"):
        scenario = given(flow(ask, pay), "OrderPlaced").when(way).then(expected=["pay.any"])
        scenario.when("OrderConfirmed").then(facts.FLOW_COMPLETED, status="completed")


def test_a_join_with_an_event_from_outside_waits_for_its_wait() -> None:
    """An early signature counts once the wait for it is open; without one in time the run is undone."""
    sign = WaitDefinition("wait.Signed", "FlightBooked", "Signed", HOUR_MS, "NotSigned")
    confirm = step("mail.confirm", "HotelBooked", "OrderConfirmed", effect=False, all_of=("HotelBooked", "Signed"))
    trip = flow(FLIGHT, HOTEL, confirm, waits=(sign,))
    early = given(trip, "OrderPlaced", "Signed", "HotelBooked").then(expected=["flight.book"], waits=[])
    early.when("FlightBooked").then(expected=["mail.confirm"], waits=[])
    late = given(trip, "OrderPlaced", "HotelBooked", "FlightBooked").when(elapsed("1h"))
    late.then("NotSigned", facts.COMPENSATION_STARTED, undo("flight.book"), status="compensating")


ONE_OF = step("ask.how", "OrderPlaced", "CardGiven", "InvoiceAsked", effect=False)
MISTAKES = {
    "only one comes": (
        flow(ONE_OF, step("pay.both", "CardGiven", "OrderConfirmed", all_of=("CardGiven", "InvoiceAsked"))),
        (
            "flow order, step pay.both: it joins CardGiven and InvoiceAsked, of which step ask.how emits only one. "
            "Write on=any_of(...), or let step ask.how return both (-> tuple[CardGiven, InvoiceAsked])."
        ),
    ),
    "a failure": (
        flow(FLIGHT, HOTEL, step("mail.tell", "FlightBooked", "OrderConfirmed", all_of=("FlightBooked", "HotelFull"))),
        (
            "flow order, step mail.tell: it joins HotelFull, which a failure brings about: "
            "compensation starts, and no join is completed. Declare a step on HotelFull alone."
        ),
    ),
    "needed and not made": (
        flow(FLIGHT, step("mail.tell", "FlightBooked", "OrderConfirmed", takes=(("",), ("Weather",)))),
        "mail.tell: it needs Weather, which nothing emits. Let a step emit Weather, or drop the argument.",
    ),
    "needed and later": (
        flow(
            FLIGHT,
            step("mail.tell", "FlightBooked", "Told", takes=(("",), ("OrderConfirmed",))),
            step("mail.end", "Told", "OrderConfirmed"),
        ),
        (
            "flow order, step mail.tell: it needs OrderConfirmed, and a run can come to FlightBooked without it. "
            "Hint the argument as OrderConfirmed | None, or start the step on a later event."
        ),
    ),
    "needed from a branch beside": (
        flow(FLIGHT, HOTEL, step("mail.tell", "FlightBooked", "OrderConfirmed", takes=(("",), ("HotelBooked",)))),
        (
            "flow order, step mail.tell: it needs HotelBooked, and a run can come to FlightBooked without it. "
            "Hint the argument as HotelBooked | None, or start the step on a later event."
        ),
    ),
}


_BOOKED, _WEATHER = ParameterDefinition("HotelBooked"), ParameterDefinition("Weather")
NOT_SURE = replace(FLIGHT, compensation=replace(undone("FlightCancelled"), takes=(ParameterDefinition(""), _BOOKED)))
NOT_MADE = replace(NOT_SURE, compensation=replace(NOT_SURE.compensation, takes=(ParameterDefinition(""), _WEATHER)))
MISTAKES |= {
    "a compensation needs what may not be there": (
        flow(NOT_SURE, HOTEL, CONFIRM),
        (
            "flow order, undo of step flight.book: it needs HotelBooked, and a run can come to OrderPlaced without it. "
            "Hint the argument as HotelBooked | None, or start the step on a later event."
        ),
    ),
    "a compensation needs what nothing makes": (
        flow(NOT_MADE, HOTEL, CONFIRM),
        "step flight.book: it needs Weather, which nothing emits. Let a step emit Weather, or drop the argument.",
    ),
}


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_join_or_a_needed_event_that_cannot_work_is_a_mistake(wrong: object, sentence: str) -> None:
    """Each with the place and the remedy."""
    assert any(found.endswith(sentence) for found in published("error", wrong))  # type: ignore[arg-type]


def test_an_event_that_is_always_there_may_be_needed() -> None:
    """The start, an event before the trigger on every way, and one that may be missing."""
    takes = (("",), ("OrderPlaced",), ("FlightBooked",), ("HotelBooked", True))
    tell = step("mail.tell", "Paid", "OrderConfirmed", effect=False, takes=takes)
    sound = flow(FLIGHT, HOTEL, step("pay.all", "FlightBooked", "Paid", undone="Repaid"), tell)
    assert published("error", sound) == []


def test_the_newest_event_is_the_newest_also_where_another_step_takes_them_all() -> None:
    """The list is refused beyond its bound; a step that takes one of them gets the last."""
    every = step("mail.every", "Asked", "Told", effect=False, takes=(("",), ("Noted", False, True)))
    newest = step("mail.newest", "Asked", "Told", effect=False, takes=(("",), ("Noted",)))
    reads, table, found = reads_of([every, newest]), FlowTable(flow(every, newest)), Gates()
    for number in range(NEEDED_MAX + 50):
        found, _ = came(table, found, Outside("Noted", f"n-{number}", number, 0), 0, reads)
    _, moves = came(table, found, Outside("Asked", "a", 5_000, 0), 0, reads)
    arguments = {move.step.name: move.arguments[1] for move in moves if isinstance(move, Triggered)}
    assert arguments["mail.newest"] == (NEEDED_MAX + 49,)
    assert len(arguments["mail.every"]) > NEEDED_MAX
