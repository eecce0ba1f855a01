"""Optional waits: they do not hold the end, and the log decides between an answer and the close."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import WaitDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.testing.given import elapsed, event, foreign, given
from tests.core.plain import HOUR_MS, flow, published, step

SEND = step("shop.send", "OrderPlaced", "OrderConfirmed", undone="Recalled")
THANK = step("shop.thank", "Reviewed", effect=False)
REVIEW = WaitDefinition("wait.review", "OrderPlaced", "Reviewed", 0, "", optional=True)
SHOP = flow(SEND, THANK, waits=(REVIEW,))


def test_an_optional_wait_does_not_hold_the_end() -> None:
    """It is closed by a fact before the run completes."""
    story = given(SHOP, "OrderPlaced").then(waits=["Reviewed"])
    story.when("OrderConfirmed").then(facts.WAIT_CLOSED, facts.FLOW_COMPLETED, status="completed", waits=[])
    story.when(foreign("Reviewed")).then_nothing().then(status="completed")


def test_an_answer_in_time_runs_its_steps_and_these_hold_the_end() -> None:
    """Then no wait is left to close."""
    story = given(SHOP, "OrderPlaced", foreign("Reviewed"), "OrderConfirmed").then(expected=["shop.thank"])
    story.when(event(facts.STEP_COMPLETED, step="shop.thank")).then(facts.FLOW_COMPLETED, status="completed")


def test_an_answer_before_the_close_in_the_log_wins() -> None:
    """The fact that was decided already is void, and the run completes after the step of the answer."""
    story = given(SHOP, "OrderPlaced", "OrderConfirmed", read_back=False).then(waits=["Reviewed"])
    assert [fact.type for fact in story.unread] == [facts.WAIT_CLOSED]
    story.when(foreign("Reviewed")).then(expected=["shop.thank"], waits=[])
    story.read_back().then_nothing().then(expected=["shop.thank"], status="running")
    story.when(event(facts.STEP_COMPLETED, step="shop.thank")).then(facts.FLOW_COMPLETED)


def test_an_answer_after_the_close_in_the_log_changes_nothing() -> None:
    """Also before FlowCompleted is read."""
    story = given(SHOP, "OrderPlaced", "OrderConfirmed", read_back=False).read_back()
    story.then(facts.FLOW_COMPLETED, waits=[])
    story.when(foreign("Reviewed")).then_nothing().then(expected=[])


def test_a_wait_that_must_be_satisfied_keeps_the_optional_one_open() -> None:
    """The close is decided only when it alone is left."""
    must = WaitDefinition("wait.Picked", "OrderPlaced", "Picked", HOUR_MS, "", then="Lost")
    shop = flow(SEND, THANK, step("shop.note", "Lost", effect=False), waits=(REVIEW, must))
    story = given(shop, "OrderPlaced", "OrderConfirmed").then(waits=["Reviewed", "Picked"])
    story.when(foreign("Picked")).then(facts.WAIT_CLOSED, facts.FLOW_COMPLETED, status="completed")


def test_each_optional_wait_is_closed_by_a_fact_of_its_own() -> None:
    """With ids that a restart repeats."""
    other = replace(REVIEW, name="wait.photo", until="Photo")
    shop = flow(SEND, THANK, step("shop.show", "Photo", effect=False), waits=(REVIEW, other))
    stories = [given(shop, "OrderPlaced").when("OrderConfirmed") for _ in range(2)]
    for story in stories:
        story.then(facts.WAIT_CLOSED, facts.WAIT_CLOSED, facts.FLOW_COMPLETED)
    assert [fact.id for fact in stories[0].published] == [fact.id for fact in stories[1].published]
    assert len({fact.id for fact in stories[0].published}) == 3


def test_a_pause_puts_the_close_off() -> None:
    """Nothing is decided while an operator looks."""
    story = given(SHOP, "OrderPlaced", facts.FLOW_PAUSED).when("OrderConfirmed").then_nothing()
    story.when(facts.FLOW_RESUMED).then(facts.WAIT_CLOSED, facts.FLOW_COMPLETED, status="completed")


def test_a_cancel_between_the_close_and_the_end_compensates_the_run() -> None:
    """The run has not decided to complete: the close is void."""
    story = given(SHOP, "OrderPlaced", "OrderConfirmed", read_back=False).when(event(facts.CANCEL_REQUESTED))
    story.then(status="compensating", waits=[])
    story.read_back().then(status="compensating")


def test_an_optional_wait_may_time_out_and_remind() -> None:
    """Until all else is done."""
    wait = replace(REVIEW, timeout_ms=9 * HOUR_MS, then="NoReview", remind="Asked", remind_ms=HOUR_MS, reminds_max=2)
    late = step("shop.note", "NoReview", effect=False)
    shop = flow(SEND, THANK, late, step("shop.ask", "Asked", effect=False), waits=(wait,))
    shop = replace(shop, steps=tuple(replace(each, deadline_ms=99 * HOUR_MS) for each in shop.steps))
    assert published("error", shop) == []
    story = given(shop, "OrderPlaced", elapsed("1h")).then(expected=["shop.send", "shop.ask"])
    story.when(elapsed("8h")).then("Asked", "NoReview", waits=[])


def test_of_two_waits_on_one_event_the_optional_one_may_stay_open() -> None:
    """The check asks for no event that says which comes."""
    must = WaitDefinition("wait.Picked", "OrderPlaced", "Picked", HOUR_MS, "NotPicked")
    confirm = step("shop.confirm", "Picked", "OrderConfirmed", effect=False)
    pair = [replace(REVIEW, timeout_ms=HOUR_MS, fails="NoReview", optional=optional) for optional in (True, False)]
    found = [published("warning", flow(confirm, THANK, waits=(must, review))) for review in pair]
    assert found[0] == []
    assert "OrderPlaced opens both" in found[1][0]


def test_an_optional_wait_that_the_end_opens_is_warned_of() -> None:
    """Nothing holds the run for it: only an answer that came early runs its steps."""
    shop = flow(SEND, THANK, waits=(replace(REVIEW, on="OrderConfirmed"),))
    (found,) = published("warning", shop)
    assert "wait.review: it opens on OrderConfirmed, which completes the run: it is closed at once" in found
    given(shop, "OrderPlaced", "OrderConfirmed").then(status="completed")


def test_an_optional_wait_is_the_same_in_json_and_stands_in_the_diagram() -> None:
    """The check knows it, and warns where the flow cannot do without it."""
    assert load(export(SHOP)) == SHOP
    assert "wait for Reviewed, optional" in mermaid(SHOP)
    assert published("error", SHOP) == published("warning", SHOP) == []
    needed = flow(step("shop.send", "Reviewed", "OrderConfirmed", effect=False), waits=(REVIEW,))
    assert any("no way to OrderConfirmed goes without it" in found for found in published("warning", needed))
    timer = flow(SEND, waits=(replace(REVIEW, name="timer.t", until="", timeout_ms=1, then="Reviewed"),))
    assert any("a timer is not optional" in found for found in published("error", timer))
