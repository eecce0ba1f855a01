"""The helper that users test their flows with: it reads as a story, and names the difference."""

from __future__ import annotations

import pytest

from choreo import Event, Flow, Service, StepContext, field, otherwise
from choreo.testing import duplicate, elapsed, event, foreign, given, undo


class Asked(Event):
    """Somebody wants a table."""

    booking_id: str


class Held(Event):
    """A table is set aside."""

    booking_id: str


class Full(Event):
    """There is none."""

    booking_id: str


class Released(Event):
    """The table is free again."""

    booking_id: str


class Arrived(Event):
    """The guests are there."""

    booking_id: str


class NobodyCame(Event):
    """They are not."""

    booking_id: str


class Seated(Event):
    """They sit."""

    booking_id: str


tables = Service("tables")


@tables.step(on=Asked, emits=Held, fails=Full)
def hold(event: Asked, ctx: StepContext) -> Held | Full:
    """Set a table aside."""
    return Held(booking_id=event.booking_id)


@hold.compensate(emits=Released)
def release(held: Held | None, ctx: StepContext) -> Released | None:
    """Free it again."""
    return Released(booking_id=held.booking_id) if held else None


@tables.step(on=Arrived, emits=Seated, effect=False)
def seat(event: Arrived, ctx: StepContext) -> Seated:
    """Show them to their table."""
    return Seated(booking_id=event.booking_id)


booking = Flow("booking", key="booking_id", starts=Asked, completes=Seated, services=[tables])
booking.wait(on=Held, until=Arrived, timeout="15m", fails=NobodyCame)


def test_a_story_is_told_in_event_objects_or_in_types() -> None:
    """The key is the first event's; both ways mean the same."""
    story = given(booking, Asked(booking_id="b-7"), Held(booking_id="b-7")).when(Arrived(booking_id="b-7"))
    story.then(expected=["tables.seat"]).when("Seated").then("choreo.FlowCompleted", status="completed")
    assert story.key == "b-7"
    assert given(booking, "Asked").key == "booking-1"
    assert given(booking, "Asked", key="b-8").key == "b-8"


def test_time_passes_in_no_time_and_what_is_due_is_said() -> None:
    """A quarter of an hour later nobody has come."""
    story = given(booking, "Asked", "Held").then(waits=["Arrived"]).when(elapsed("15m"))
    story.then("NobodyCame", "choreo.CompensationStarted", undo("tables.hold"), status="compensating")
    story.when("Released").then("choreo.FlowCompensated", status="compensated", ledger={"tables.hold": "undone"})


def test_what_the_tracker_says_can_be_left_unread() -> None:
    """For tests of the time between a decision and its fact."""
    story = (
        given(booking, "Asked", read_back=False)
        .when("Full")
        .then("choreo.CompensationStarted", "choreo.FlowCompensated")
    )
    story.then(status="compensating").read_back().then(status="compensated")


def test_a_story_fills_in_what_a_host_would_write() -> None:
    """Derived ids, run, step, trigger and hops; values given by hand are kept."""
    story = given(booking, "Asked", "Held", event("choreo.CancelRequested", reason="sorry"))
    start, held = (record.event for record in story.log[:2])
    assert (held.run, held.step, held.causation, held.hops) == (start.id, "tables.hold", start.id, 1)
    assert story.log[2].event.reason == "sorry"
    assert given(booking, "Asked", foreign("Held")).log[1].event.run == ""
    assert given(booking, "Asked", duplicate("Asked")).log[1].event == start


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        ({"status": "completed"}, "status\n  expected 'completed'\n  found    'running'"),
        ({"expected": ["tables.seat"]}, "expected\n  expected ['tables.seat']\n  found    []"),
        ({"waits": []}, "waits\n  expected []\n  found    ['Arrived']"),
        ({"ledger": {"tables.hold": "undone"}}, "found    [('tables.hold', 'open')]"),
        ({"cause": "x"}, "cause\n  expected 'x'\n  found    ''"),
        ({"run": "r-9"}, "there is no run r-9"),
    ],
)
def test_a_claim_that_fails_shows_what_was_found_and_the_log(claim: dict[str, object], sentence: str) -> None:
    """Expected, found, and how it came to that."""
    with pytest.raises(AssertionError) as failed:
        given(booking, "Asked", "Held").then(**claim)  # type: ignore[arg-type]
    assert sentence in str(failed.value)
    assert "1 +1s           Held                         tables.hold" in str(failed.value)
    assert "awaits Arrived; ledger: tables.hold open" in str(failed.value)


def test_decisions_that_were_not_said_are_shown_beside_those_that_were() -> None:
    """With the fields that the test asked about."""
    story = given(booking, "Asked", "Held")
    with pytest.raises(AssertionError, match="found    nothing"):
        story.then(undo("tables.hold"))
    with pytest.raises(AssertionError, match=r"CompensationRequested\(round=1, step='tables.hold'\)"):
        story.when("choreo.CancelRequested").then("choreo.CompensationStarted", undo("tables.hold", round=2))
    with pytest.raises(AssertionError, match="expected nothing"):
        story.then_nothing()


class Rang(Event):
    """The time of a timer is over: the tracker fills in the reason."""

    booking_id: str
    reason: str = ""


def test_an_event_of_the_tracker_decides_a_branch_by_its_own_fields() -> None:
    """The scenario need not give them."""
    clock = Service("clock")

    @clock.step(on=Rang, when=field("reason") == "its time is over", emits=Seated, effect=False)
    def on_time(event: Rang, ctx: StepContext) -> Seated:
        """Seat the guests."""
        return Seated(booking_id=event.booking_id)

    @clock.step(on=Rang, when=otherwise(), emits=Seated, effect=False)
    def at_another_time(event: Rang, ctx: StepContext) -> Seated:
        """Seat them all the same."""
        return Seated(booking_id=event.booking_id)

    timed = Flow("timed", key="booking_id", starts=Asked, completes=Seated, services=[clock])
    timed.timer("hour", on=Asked, after="1h", emits=Rang)
    given(timed, Asked(booking_id="b-1"), elapsed("1h")).then(expected=["clock.on_time"])
