"""A decision in the log stands when it is folded under a declaration that gives more time, or has another bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.events import Record
from choreo.core.flow_changes import flow_changes
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, Run
from choreo.core.timers import due
from choreo.testing import EventLike, Scenario, elapsed, event, foreign, given
from tests.core.order import DAY_MS, ORDER, PICKED, but
from tests.core.plain import CHARGE, HOUR_MS, flow, step, undo
from tests.core.test_reminders import CLAIM as REMINDED
from tests.core.test_waits import CLAIM, claim_with

PAID: tuple[EventLike, ...] = ("OrderPlaced", "StockReserved", "PaymentCharged")
LOOP = flow(
    step("draft.write", "OrderPlaced", "Drafted"),
    step("draft.review", "Drafted", "OrderConfirmed", "Rejected"),
    step("draft.rewrite", "Rejected", "Drafted"),
    hops_max=3,
)
ROUND: tuple[EventLike, ...] = ("Rejected", event("Drafted", step="draft.rewrite"))


def longer(definition: FlowDefinition, wait: dict[str, Any]) -> FlowDefinition:
    """Return the flow with its first wait changed."""
    return replace(definition, waits=(replace(definition.waits[0], **wait), *definition.waits[1:]))


CASES: dict[str, tuple[FlowDefinition, FlowDefinition, Sequence[EventLike]]] = {
    "a wait that goes on with its time-out": (
        CLAIM,
        claim_with(timeout_ms=9 * HOUR_MS),
        ("OrderPlaced", "ClaimFiled", elapsed("1h")),
    ),
    "a wait whose time-out compensates": (
        PICKED,
        longer(PICKED, {"timeout_ms": 9 * HOUR_MS}),
        (*PAID, elapsed("1h")),
    ),
    "the deadline of a step": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, deadline_ms=9 * HOUR_MS)),
        ("OrderPlaced", "StockReserved", elapsed("1h")),
    ),
    "the deadline of an undo": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, compensation=undo("PaymentRefunded", deadline_ms=9 * HOUR_MS))),
        (*PAID, facts.CANCEL_REQUESTED, elapsed("1h")),
    ),
    "the deadline of the flow": (
        replace(PICKED, deadline_ms=HOUR_MS // 2),
        replace(PICKED, deadline_ms=DAY_MS),
        (*PAID, elapsed("30m")),
    ),
    "a flow that has no deadline any more": (
        replace(PICKED, deadline_ms=HOUR_MS // 2),
        replace(PICKED, deadline_ms=0),
        (*PAID, elapsed("30m")),
    ),
    "a time-out after a pause": (
        CLAIM,
        claim_with(timeout_ms=9 * HOUR_MS),
        ("OrderPlaced", "ClaimFiled", facts.FLOW_PAUSED, elapsed("3h"), facts.FLOW_RESUMED, elapsed("1h")),
    ),
    "a reminder": (
        REMINDED,
        longer(REMINDED, {"remind_ms": 2 * DAY_MS, "escalate_ms": 3 * DAY_MS}),
        ("OrderPlaced", "Filed", elapsed("51h")),
    ),
    "a bound of hops": (LOOP, replace(LOOP, hops_max=99), ("OrderPlaced", "Drafted", *ROUND, *ROUND)),
}


def again(log: Sequence[Record], definition: FlowDefinition) -> KeyState:
    """Return the fold of the log under this declaration."""
    state = KeyState()
    for record in log:
        state, _ = react(FlowTable(definition), state, record)
    return state


def about(run: Run) -> dict[str, object]:
    """Return what the decisions in the log have made of a run."""
    return {
        "status": run.status,
        "cause": run.cause,
        "expected": [(each.step, each.trigger) for each in run.expected],
        "waits": [(wait.name, wait.trigger, wait.reminded, bool(wait.escalation_ms)) for wait in run.waits],
        "openings": [(opening.wait, opening.trigger, opening.reminded) for opening in run.gates.openings],
        "ledger": [(entry.step, entry.state, entry.round) for entry in run.ledger],
        "announced": run.announced,
    }


@pytest.mark.parametrize("case", CASES)
def test_a_decision_in_the_log_stands_under_the_present_declaration(case: str) -> None:
    """The hosts have acted on it; said again at another time, it would be a second answer to one question."""
    before, now, events = CASES[case]
    story = given(before, *events)
    assert any(record.event.due_ms or record.event.type == facts.COMPENSATION_STARTED for record in story.log)
    (run,) = again(story.log, now).runs
    known = about(story.runs[0])
    if case == "a bound of hops":  # the trigger beyond the old bound is within the new one; its host skips it
        assert run.compensating
        assert run.announced
        assert (run.status, run.cause) == (known["status"], known["cause"])
    elif case == "the deadline of an undo":
        assert about(run) | {"cause": ""} == known | {"cause": ""}
    else:
        assert about(run) == known


@pytest.mark.parametrize("case", [name for name in CASES if name != "a reminder"])
def test_these_changes_are_compatible(case: str) -> None:
    """So no new version is asked for, and the fold must bear them."""
    before, now, _ = CASES[case]
    assert [change.breaks for change in flow_changes(before, now)] == [""]


@pytest.mark.parametrize("case", CASES)
def test_nothing_of_the_log_is_published_again(case: str) -> None:
    """Neither the fact at its new time, nor the start of the compensation."""
    before, now, events = CASES[case]
    story = given(before, *events)
    state = again(story.log, now)
    known = {record.event.id for record in story.log}
    said = {(r.event.type, r.event.step, r.event.trigger, r.event.n) for r in story.log if r.event.due_ms}
    later = due(FlowTable(now), story.key, state, story.now_ms + 99 * DAY_MS)
    assert not {(fact.type, fact.step, fact.trigger, fact.n) for fact in later} & said
    assert not {fact.id for run in state.runs for fact in run.outbox} & known


def stale(story: Scenario, hours: int) -> Scenario:
    """Return the story after a time-out that its tracker published without having read the pause."""
    facts_due = due(story.table, story.key, story.state, story.now_ms + hours * HOUR_MS)
    return story.when(facts.FLOW_PAUSED, elapsed("2h"), facts.FLOW_RESUMED).when(*facts_due)


def test_a_fact_whose_tracker_had_not_read_a_pause_is_void() -> None:
    """Its due time has moved; it comes again."""
    story = stale(given(CLAIM, "OrderPlaced", "ClaimFiled"), 1).then_nothing()
    story.then(waits=["Approved or AutoApproved"]).when(elapsed("1h")).then("Expired", expected=["claims.close"])


def test_a_second_fact_about_one_subject_is_void() -> None:
    """Two trackers with two declarations may publish one each: the first in the log counts."""
    story = given(CLAIM, "OrderPlaced", "ClaimFiled", elapsed("1h"))
    first = story.log[story.offset_of("Expired")].event
    later = replace(first, id="later", due_ms=first.due_ms + HOUR_MS // 2)
    story.when(elapsed("31m"), later).then(expected=["claims.close"], status="running")


def test_an_answer_before_the_fact_stands_as_well() -> None:
    """The log alone settles the race, under each declaration."""
    story = given(CLAIM, "OrderPlaced", "ClaimFiled", foreign("Approved"), read_back=False)
    late = event("Expired", step="wait.approval", trigger=story.log[1].event.id, due_ms=story.now_ms + 1)
    story.when(elapsed("2h"), late)
    for definition in (CLAIM, claim_with(timeout_ms=9 * HOUR_MS)):
        assert [each.step for each in again(story.log, definition).runs[0].expected] == ["claims.pay"]
