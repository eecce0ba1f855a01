"""Timers at a moment in a field, moved and cancelled: never early, never lost, and the old time never counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import FlowDefinition, WaitDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.core.errors import DeclarationError
from choreo.core.events import Record
from choreo.core.flow_changes import flow_changes
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.timers import due, next_due
from choreo.testing.given import Scenario, elapsed, event, foreign, given
from tests.core.plain import HOUR_MS, flow, published, step

SIGN = step("desk.sign", "OrderPlaced", "Signed", effect=False)
BILL = step("desk.bill", "Due", "OrderConfirmed", effect=False, deadline_ms=99_999 * HOUR_MS)
TRIAL = WaitDefinition("timer.trial", "Signed", "Left", 24 * HOUR_MS, "", then="Due", moved_by="Extended")
MOVABLE = flow(SIGN, BILL, step("desk.close", "Left", "Closed", effect=False), waits=(TRIAL,))
MOVABLE = replace(MOVABLE, outcomes={"OrderConfirmed": "billed", "Closed": "left"})
RENEWAL = WaitDefinition("timer.renewal", "Signed", "", 0, "", then="Due", at="renews_at", moved_by="Extended")
AT = flow(SIGN, BILL, waits=(RENEWAL,), events=dict.fromkeys(("Signed", "Extended"), ("order_id", "renews_at")))


def at(type_: str, story: Scenario | None = None, **later: float) -> object:
    """Return an event with a moment that lies so much after now."""
    now_ms = story.now_ms if story else given(AT).now_ms
    moment = datetime.fromtimestamp(now_ms / 1_000, UTC) + timedelta(**later)
    return event(type_, values={"order_id": "order-1", "renews_at": moment})


def test_a_timer_that_is_moved_begins_anew() -> None:
    """Its duration counts from the event that moved it, by the log's time; the old moment passes in silence."""
    story = given(MOVABLE, "OrderPlaced", "Signed", elapsed("20h")).when(foreign("Extended")).then_nothing()
    story.then(waits=["timer.trial"]).when(elapsed("23h")).then_nothing()
    story.when(foreign("Extended"), elapsed("23h")).then_nothing()
    story.when(elapsed("1h")).then("Due", expected=["desk.bill"], waits=[])


def test_a_duplicate_of_the_event_that_moved_it_moves_nothing() -> None:
    """Neither of a foreign one, nor of one that names the run."""
    for moving in (foreign("Extended", id="x-1"), event("Extended", id="x-1")):
        story = given(MOVABLE, "OrderPlaced", "Signed", moving, elapsed("20h"), moving)
        story.when(elapsed("4h")).then("Due")


def test_what_moves_a_timer_that_is_not_open_changes_nothing() -> None:
    """Before it opens, after it was cancelled, and after it is over."""
    early = given(MOVABLE, "OrderPlaced", foreign("Extended"), "Signed")
    early.when(elapsed("24h")).then("Due")
    early.when(foreign("Extended")).then_nothing().then(expected=["desk.bill"])
    cancelled = given(MOVABLE, "OrderPlaced", "Signed", foreign("Left"), foreign("Extended"))
    cancelled.then(expected=["desk.close"], waits=[]).when("Closed").then(status="completed")


def test_a_fact_that_was_published_before_the_move_is_void() -> None:
    """The tracker had not read the move: the log's order decides, and no step runs for it."""
    story = given(MOVABLE, "OrderPlaced", "Signed")
    (fact,) = due(story.table, story.key, story.state, story.now_ms + 24 * HOUR_MS)
    story.when(elapsed("23h"), foreign("Extended"), elapsed("1h"))
    story.when(fact).then_nothing().then(waits=["timer.trial"], expected=[])
    first_wins = given(MOVABLE, "OrderPlaced", "Signed", elapsed("24h"), foreign("Extended"))
    first_wins.then(expected=["desk.bill"], waits=[])


def test_a_fact_before_the_announced_compensation_triggers_its_steps() -> None:
    """Hosts do not know of the decision yet, and start them: the run waits for their outcomes."""
    for definition, opener in ((MOVABLE, event("Signed")), (AT, None)):
        story = given(definition, "OrderPlaced", read_back=False)
        story.when(opener or at("Signed", story, days=1))
        (fact,) = due(story.table, story.key, story.state, story.now_ms + 24 * HOUR_MS)
        story.now_ms = fact.due_ms
        story.when(event(facts.CANCEL_REQUESTED), fact).then(expected=["desk.bill"], status="compensating")
        story.read_back().then(expected=["desk.bill"], status="compensating")
        story.when(event(facts.STEP_SKIPPED, step="desk.bill", certain=True)).then(facts.FLOW_COMPENSATED)


def test_the_event_that_moves_a_timer_brings_its_baggage() -> None:
    """The timer's event carries all that the run has carried; one that moves nothing brings nothing."""
    brings = foreign("Extended", baggage="who=ann")
    for events, carried in ((("Signed", brings), "who=ann"), ((brings, "Signed"), "")):
        story = given(MOVABLE, "OrderPlaced", *events, elapsed("25h"))
        assert (story.log[-1].event.type, story.log[-1].event.baggage) == ("Due", carried)


def test_the_time_of_a_moved_timer_counts_no_pause() -> None:
    """Also where it was moved within the pause: then it counts from the resume."""
    story = given(MOVABLE, "OrderPlaced", "Signed", facts.FLOW_PAUSED, elapsed("2h"), foreign("Extended"))
    story.when(elapsed("9h"), facts.FLOW_RESUMED, elapsed("23h")).then(waits=["timer.trial"])
    story.when(elapsed("1h")).then("Due")


def test_a_step_may_move_a_timer() -> None:
    """Its event then does both."""
    extend = step("desk.extend", "Asked", "Extended", effect=False)
    asked = WaitDefinition("wait.Asked", "Signed", "Asked", 9 * HOUR_MS, "", then="Silent")
    definition = flow(SIGN, BILL, extend, step("desk.note", "Silent", effect=False), waits=(TRIAL, asked))
    assert published("error", definition) == []
    story = given(definition, "OrderPlaced", "Signed", elapsed("8h"), foreign("Asked")).when("Extended")
    story.when(elapsed("23h")).then_nothing()
    story.when(elapsed("1h")).then("Due")


def test_a_step_on_the_event_that_moves_a_timer_runs_at_once() -> None:
    """It waits for no timer."""
    note = step("desk.note", "Extended", "Noted", effect=False)
    definition = flow(SIGN, BILL, note, waits=(TRIAL,))
    assert published("error", definition) == []
    given(definition, "OrderPlaced", "Signed", foreign("Extended")).then(expected=["desk.note"])


def test_a_moment_in_a_field_is_met_exactly() -> None:
    """Years ahead, and not a millisecond early."""
    story = given(AT, "OrderPlaced")
    story.when(at("Signed", story, days=800)).then(waits=["timer.renewal"])
    moment_ms = next_due(story.state)
    assert moment_ms == story.now_ms + 800 * 24 * HOUR_MS - 1_000  # the event is stamped a second after
    assert due(story.table, story.key, story.state, moment_ms - 1) == []
    story.when(elapsed("801d")).then("Due", expected=["desk.bill"])
    assert story.log[-1].stamp_ms == moment_ms


def test_a_moment_in_the_past_is_due_at_once() -> None:
    """Also one before 1970."""
    for past in ({"days": -1.0}, {"days": -50_000.0}, {"seconds": 0.0}):
        story = given(AT, "OrderPlaced")
        story.when(at("Signed", story, **past), elapsed("1s")).then("Due", expected=["desk.bill"])


def test_a_fraction_of_a_millisecond_is_rounded_up() -> None:
    """Rounded down it would be early."""
    story = given(AT, "OrderPlaced")
    story.when(at("Signed", story, hours=1, microseconds=1))
    assert next_due(story.state) == story.now_ms - 1_000 + HOUR_MS + 1


def test_a_moment_is_moved_earlier_or_later() -> None:
    """The newest event in the log counts."""
    story = given(AT, "OrderPlaced")
    story.when(at("Signed", story, days=30), at("Extended", story, days=60), elapsed("31d")).then_nothing()
    story.when(at("Extended", story, days=1), elapsed("25h")).then("Due", expected=["desk.bill"])


def test_a_moment_does_not_stand_still_in_a_pause() -> None:
    """It is a date of the calendar: one that passes in the pause is due at the resume."""
    story = given(AT, "OrderPlaced")
    story.when(at("Signed", story, days=3), facts.FLOW_PAUSED, elapsed("1d"), facts.FLOW_RESUMED)
    story.when(elapsed("47h")).then_nothing().when(elapsed("1h")).then("Due")
    late = given(AT, "OrderPlaced")
    late.when(at("Signed", late, days=3), facts.FLOW_PAUSED, elapsed("9d")).then_nothing()
    late.when(facts.FLOW_RESUMED, elapsed("1s")).then("Due", expected=["desk.bill"])


def test_a_fact_that_falls_into_a_pause_comes_again_with_the_same_id() -> None:
    """Its due time is the same: the first one changed nothing, and its id is not remembered."""
    story = given(AT, "OrderPlaced")
    story.when(at("Signed", story, days=3))
    (fact,) = due(story.table, story.key, story.state, story.now_ms + 3 * 24 * HOUR_MS)
    story.when(facts.FLOW_PAUSED, elapsed("4d"), fact).then_nothing().then(waits=["timer.renewal"])
    story.when(facts.FLOW_RESUMED, elapsed("1s")).then("Due", expected=["desk.bill"])
    assert story.log[-1].event == replace(fact, pauses=2)


UNREADABLE = {
    "no field": {},
    "no moment": {"renews_at": 3},
    "none": {"renews_at": None},
    "too far": {"renews_at": datetime.fromisoformat("9999-12-31T23:59:59-12:00")},
    "no such day": {"renews_at": "10000-01-01T00:00:00+00:00"},
}


@pytest.mark.parametrize("values", UNREADABLE.values(), ids=UNREADABLE)
def test_a_moment_that_cannot_be_read_compensates_the_run_or_leaves_the_old_one(values: dict[str, object]) -> None:
    """Nothing stops: a run without a moment would wait for ever; one that has a moment keeps it."""
    story = given(AT, "OrderPlaced").when(event("Signed", values=values))
    story.then(facts.COMPENSATION_STARTED, facts.FLOW_COMPENSATED, status="compensated")
    assert story.runs[0].cause.startswith("timer.renewal has no moment: Signed.renews_at: ")
    moved = given(AT, "OrderPlaced")
    moved.when(at("Signed", moved, days=3), event("Extended", values=values)).then(status="running")
    moved.when(elapsed("3d")).then("Due", expected=["desk.bill"])


def test_an_event_that_was_not_decoded_sets_no_moment() -> None:
    """The cause is the decoder's."""
    story = given(AT, "OrderPlaced")
    signed = Record("order", 0, 1, story.now_ms, story.envelope(event("Signed")))
    signed = replace(signed, fields={}, unreadable="Signed: is no JSON")
    state, decisions = react(FlowTable(AT), story.state, signed)
    assert state.runs[0].cause == "timer.renewal has no moment: Signed: is no JSON"
    assert decisions[0].type == facts.COMPENSATION_STARTED


def test_a_scenario_gives_the_fields_with_the_moment() -> None:
    """Nothing is guessed."""
    with pytest.raises(DeclarationError, match=r"Signed sets the moment of a timer"):
        given(AT, "OrderPlaced", "Signed")


def test_timers_are_the_same_in_json_and_stand_in_the_diagram() -> None:
    """Exported and loaded again; a run in flight cannot bear another way to move its timer."""
    for definition in (MOVABLE, AT):
        assert load(export(definition)) == definition
        assert published("error", definition) == []
    assert "timer.trial, after 1d, moved by Extended" in mermaid(MOVABLE)
    assert "timer.renewal, at renews_at, moved by Extended" in mermaid(AT)
    other = replace(MOVABLE, waits=(replace(TRIAL, moved_by=""),))
    assert [change.breaks for change in flow_changes(MOVABLE, other)] == ["runs in flight may stand at this wait"]


def with_timer(**changes: object) -> FlowDefinition:
    """Return the flow whose timer is changed."""
    return replace(AT, waits=(replace(RENEWAL, **changes),))


MISTAKES = {
    "no such field": (with_timer(at="when"), "Signed has no field when, its moment. Add when to Signed"),
    "two times": (with_timer(timeout_ms=1), "it has both a duration and a moment. Give after= or at="),
    "no time": (with_timer(at=""), "its timeout leaves no time"),
    "moved by its opener": (with_timer(moved_by="Signed"), "Signed moves it and has another meaning in it"),
    "moved by its end": (with_timer(moved_by="Due"), "Due moves it and has another meaning in it"),
    "a wait": (with_timer(name="wait.x", until="X", fails="Y", then=""), "a wait has no moment, and nothing moves it"),
    "by a failure": (
        flow(replace(SIGN, fails=("No",)), BILL, waits=(replace(TRIAL, moved_by="No"),)),
        "No moves it, which is a failure or an undo",
    ),
}


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_timer_that_cannot_work_is_a_mistake(wrong: FlowDefinition, sentence: str) -> None:
    """Each with the place and the remedy."""
    assert any(sentence in found for found in published("error", wrong)), published("error", wrong)


def test_a_moment_that_may_lie_beyond_the_deadline_is_warned_of() -> None:
    """The flow's deadline would end the run before the timer."""
    (found,) = published("warning", replace(AT, deadline_ms=24 * HOUR_MS))
    assert "timer.renewal: its moment may lie beyond the flow's deadline of 1d" in found
