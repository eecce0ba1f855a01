"""The build of a run: every fact about it names the build in its start, whatever the build of later events."""

from __future__ import annotations

from choreo.core import facts
from choreo.core.events import to_headers
from choreo.testing.given import elapsed, event, given
from tests.core.plain import CHARGE, RESERVE, STEPS, flow
from tests.core.test_reminders import CLAIM

ORDER = flow(*STEPS)


def test_facts_of_a_run_name_its_build() -> None:
    """Also those that follow from events of other builds, and the calls for an undo."""
    story = given(ORDER, event("OrderPlaced", build="blue"), event("StockReserved", build="green"))
    story.when(event(facts.CANCEL_REQUESTED, reason="no"))
    assert {fact.type: fact.build for fact in story.published} == {
        facts.COMPENSATION_STARTED: "blue",
        facts.COMPENSATION_REQUESTED: "blue",
    }


def test_timer_facts_name_the_build() -> None:
    """A reminder triggers a step of the same build."""
    story = given(CLAIM, event("OrderPlaced", build="blue"), "Filed").when(elapsed("1d"))
    assert {fact.build for fact in story.published} == {"blue"}


def test_a_run_without_a_build_has_none() -> None:
    """Its facts have no header of it."""
    story = given(flow(RESERVE, CHARGE), "OrderPlaced").when(event("StockReserved", build="green"))
    story.when(event(facts.CANCEL_REQUESTED, reason="no"))
    assert {fact.build for fact in story.published} == {""}
    assert not any("ce_choreobuild" in to_headers(fact) for fact in story.published)
