"""The auditor by a flow's declaration: it finds joins, answers and children that break it, in a log made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest

from choreo import Flow
from services.order_flow import order
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip
from tests.audit import joins
from tests.audit.auditor import by_run, judge_log
from tests.audit.order import ORDER
from tests.audit.reading import Evidence, Fact
from tests.audit.shape import Durations, Shape, Told, shape_of

Facts = list[Fact]


def shape(flow: Flow) -> Shape:
    """Return the shape of a flow by what it exports."""
    return shape_of(json.loads(msgspec.json.encode(flow.definition)))


TRIP, TICKET = shape(trip), shape(ticket)
BOOKINGS = (("SeatsBooked", "flights.book"), ("RoomsBooked", "hotels.book"), ("CarBooked", "cars.book"))
UNDOS = {"cars.book": "CarFreed", "hotels.book": "RoomsFreed", "flights.book": "SeatsFreed"}


def test_the_order_flow_is_read_as_it_was_written_down_by_hand() -> None:
    """Two descriptions of one flow, made apart."""
    assert shape(order) == ORDER


class Log:
    """One run in one partition; each fact is a second after the one before, and its id is its type."""

    def __init__(self, run: str, key: str) -> None:
        """Start with nothing."""
        self.facts: Facts = []
        self._run = run
        self._key = key

    def append(self, type_: str, causation: str = "", step: str = "", **more: object) -> None:
        """Append a fact."""
        offset = len(self.facts)
        fact = Fact(
            0, offset, offset * 1_000, type_, type_, self._key, self._run, step, causation, "", certain=False, data=b""
        )
        self.facts.append(replace(fact, **more))  # type: ignore[arg-type]

    def undo(self, step: str, undo: str, trigger: str, causation: str) -> None:
        """Append the request to undo a step's effect, and its answer."""
        self.append("choreo.CompensationRequested", causation, step, id=f"ask {step}", entry=step, round=1)
        self.append(undo, f"ask {step}", step, entry=step, round=1, trigger=trigger)


def offered() -> Log:
    """Return a trip up to its offer."""
    log = Log("run", "t")
    log.append("TripRequested", id="run")
    for type_, step in BOOKINGS:
        log.append(type_, "run", step)
    log.append("TripOffered", "CarBooked", "desk.offer")
    return log


def issued() -> Log:
    """Return a trip up to its tickets."""
    log = offered()
    log.append("TripApproved")
    log.append("TripAccepted", "TripApproved", "desk.accept")
    log.append("choreo.ChildrenPlanned", "TripAccepted", "desk.tickets")
    log.append("choreo.ChildrenDue", "choreo.ChildrenPlanned", "desk.tickets")
    log.append("TicketsIssued", "TripAccepted", "desk.tickets")
    return log


def completed() -> Facts:
    """Return a trip that was approved."""
    log = issued()
    log.append("TripConfirmed", "TicketsIssued", "desk.confirm")
    log.append("choreo.FlowCompleted", "TripConfirmed")
    return log.facts


def compensated() -> Facts:
    """Return a trip that was undone after its tickets were issued."""
    log = issued()
    log.append("ConfirmationUndelivered", "TicketsIssued", "desk.confirm", certain=True)
    log.append("choreo.CompensationStarted", "ConfirmationUndelivered")
    log.undo("desk.tickets", "choreo.ChildrenCompensated", "TripAccepted", "ConfirmationUndelivered")
    cause = "choreo.ChildrenCompensated"
    for step, undo in UNDOS.items():
        log.undo(step, undo, "run", cause)
        cause = undo
    log.append("TripCancelled", cause)
    log.append("choreo.FlowCompensated", cause)
    return log.facts


def child(place: int, *, undone: bool) -> Facts:
    """Return a ticket of that trip."""
    log = Log(f"child-{place}", f"t-{place}")
    log.append("TicketRequested", id=f"child-{place}", parent=("trip", "t", "run", "desk.tickets", "x", place))
    log.append("FareCharged", f"child-{place}", "till.charge")
    log.append("TicketIssued", "FareCharged", "ticketing.issue")
    log.append("choreo.FlowCompleted", "TicketIssued")
    if undone:
        log.append("choreo.ParentCompensationRequested")
        log.append("choreo.CompensationStarted", "choreo.ParentCompensationRequested")
        log.undo("ticketing.issue", "TicketVoided", "FareCharged", "choreo.CompensationStarted")
        log.undo("till.charge", "FareRefunded", f"child-{place}", "TicketVoided")
        log.append("choreo.FlowCompensated", "FareRefunded")
    return log.facts


def found(facts: Sequence[Fact], of: Shape, status: str, durations: Durations | None = None) -> list[str]:
    """Return the findings about one flow's log."""
    shown = {fact.id: status for fact in facts if fact.type == of.start}
    told = Told(acknowledged=dict.fromkeys(shown, "t"), durations=durations or Durations())
    return judge_log(Evidence(facts, [], shown, []), of, told).violations


def of_children(parent: Facts, *children: Facts) -> list[str]:
    """Return the findings about a trip and its tickets."""
    parents, runs = by_run(parent, TRIP), by_run([fact for each in children for fact in each], TICKET)
    ends = {run: _end(facts) for run, facts in {**parents, **runs}.items()}
    return list(joins.of_children(TRIP, parents, runs, ends))


def _end(facts: Sequence[Fact]) -> str:
    ends = {"choreo.FlowCompleted": "completed", "choreo.FlowCompensated": "compensated"}
    return next((ends[fact.type] for fact in reversed(facts) if fact.type in ends), "open")


def test_sound_trips_have_no_violation() -> None:
    """Both ends, with their children: those of the second had completed before."""
    assert found(completed(), TRIP, "completed") == []
    assert found(compensated(), TRIP, "compensated") == []
    assert found([*child(0, undone=False), *child(1, undone=False)], TICKET, "completed") == []
    assert found(child(0, undone=True), TICKET, "compensated") == []
    assert of_children(completed(), child(0, undone=False), child(1, undone=False)) == []
    late = [replace(fact, stamp_ms=fact.stamp_ms + 60_000) for fact in compensated()]
    assert of_children(late, child(0, undone=True), child(1, undone=True)) == []


def without(type_: str, facts: Facts) -> Facts:
    """Return the facts without those of a type."""
    return [fact for fact in facts if fact.type != type_]


def again(type_: str, facts: Facts) -> Facts:
    """Return the facts, and one of them a second time under another id."""
    fact = next(fact for fact in facts if fact.type == type_)
    return [*facts, replace(fact, id="other", offset=90, stamp_ms=90_000)]


def acted_on(type_: str, facts: Facts) -> Facts:
    """Return the facts, and an event that came too late, on which something was done."""
    late = replace(facts[0], id=type_, type=type_, offset=80, stamp_ms=80_000)
    done = replace(facts[0], id="done", type="ManagerAsked", causation=type_, step="desk.escalate", offset=81)
    return [*facts, late, done]


SPOILT: list[tuple[str, Callable[[], Facts]]] = [
    ("TripOffered at 0/4 joins SeatsBooked, RoomsBooked, CarBooked, and there was no RoomsBooked before it",
     lambda: without("RoomsBooked", completed())),
    ("TripOffered happened 2 times", lambda: again("TripOffered", completed())),
    ("ManagerAsked at 0/81 was done on ApprovalOverdue at 0/80, and TripApproved at 0/5 was first",
     lambda: acted_on("ApprovalOverdue", completed())),
    ("it has several outcomes: TripConfirmed, TripConfirmedLate",
     lambda: [*completed(), replace(completed()[-2], id="late", type="TripConfirmedLate", offset=50)]),
    ("it completed without TripConfirmed or TripConfirmedLate",
     lambda: without("TripConfirmed", completed())),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "spoilt"), SPOILT, ids=[sentence[:60] for sentence, _ in SPOILT])
def test_a_breach_is_found(sentence: str, spoilt: Callable[[], Facts]) -> None:
    """With the trip, its run and the records."""
    assert any(breach.endswith(f": trip t, run run: {sentence}") for breach in found(spoilt(), TRIP, "completed"))


def test_children_that_stand_when_their_trip_is_undone_are_found() -> None:
    """The ledger says that the step is open; and its children say so themselves."""
    spoilt = [fact for fact in compensated() if fact.step != "desk.tickets" or fact.type[:14] == "choreo.Childre"]
    spoilt = without("choreo.ChildrenCompensated", spoilt)
    assert any("though desk.tickets was the newest open" in breach for breach in found(spoilt, TRIP, "compensated"))
    (breach,) = of_children(spoilt, child(0, undone=False))
    assert breach == "t, run run, desk.tickets: it is compensated, and its child t-0 is completed"


def test_a_child_that_was_started_twice_is_found() -> None:
    """One place, two starts with ids of their own."""
    twice = [
        replace(fact, run="again", id="again" if fact.type == "TicketRequested" else f"{fact.id} again", key="t-9")
        for fact in child(0, undone=False)
    ]
    assert of_children(completed(), child(0, undone=False), twice) == [
        "t, run run, desk.tickets: child 0 was started 2 times"
    ]


def test_a_child_that_is_missing_or_nobodys_is_found() -> None:
    """Each place of the handler's result has a child, and each child a parent."""
    assert of_children(completed(), child(1, undone=False)) == [
        "t, run run, desk.tickets: of its children only [1] were started"
    ]
    assert of_children(completed()) == ["t, run run, desk.tickets: its children are joined, and none was started"]
    assert of_children([], child(0, undone=False)) == ["desk.tickets: children of the run run, which is not in the log"]


def test_a_parent_that_does_not_wait_for_its_children_is_found() -> None:
    """The answer to its request stands before a child's end."""
    early = [replace(fact, stamp_ms=0) for fact in compensated()]
    assert of_children(early, child(0, undone=True)) == [
        "t, run run, desk.tickets: choreo.ChildrenCompensated at 0/13 stands before its child t-0 was undone"
    ]


def test_an_early_time_out_is_found() -> None:
    """Of any wait of the flow: by its own word, and by its declaration."""
    log = offered()
    log.append("ApprovalOverdue", "TripOffered", due_ms=9_000)
    breaches = found(log.facts, TRIP, "running", Durations(wait_ms={"wait.customer": 4_000}))
    assert "promise 5: ApprovalOverdue at 0/5 was said 4000 ms before it was due" in breaches
    sentence = "ApprovalOverdue at 0/5 says it was due at 9000; by its declaration it was at 8000"
    assert f"promise 5: trip t, run run: {sentence}" in breaches
