"""Reminders and escalations: never early, never lost, none after the answer, and each counts once."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from choreo.app.query.status_text import waiting_for
from choreo.app.tracking.views import detail_of, view
from choreo.core import facts
from choreo.core.definition import FlowDefinition, WaitDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.timers import due, next_due
from choreo.testing.given import elapsed, event, foreign, given
from tests.core.plain import HOUR_MS, flow, published, step

DAY_MS = 24 * HOUR_MS
FILE = step("claims.file", "OrderPlaced", "Filed", undone="Withdrawn")
PAY = step("claims.pay", "Approved", "OrderConfirmed", effect=False, deadline_ms=99 * DAY_MS)
MAIL = step("mail.remind", "Reminded", effect=False, deadline_ms=99 * DAY_MS)
CALL = step("mail.call", "Escalated", effect=False, deadline_ms=99 * DAY_MS)
APPROVAL = WaitDefinition(
    "wait.approval",
    "Filed",
    "Approved",
    7 * DAY_MS,
    "Expired",
    remind="Reminded",
    remind_ms=DAY_MS,
    reminds_max=3,
    escalate="Escalated",
    escalate_ms=2 * DAY_MS + HOUR_MS,
)
CLAIM = flow(FILE, PAY, MAIL, CALL, waits=(APPROVAL,), events={"Reminded": ("order_id", "reason", "n")})
OPEN = ("OrderPlaced", "Filed")


def test_reminders_come_at_their_times_and_carry_their_number() -> None:
    """The payload has the key, and reason and n where the class has them."""
    story = given(CLAIM, *OPEN).when(elapsed("23h")).then_nothing()
    story.when(elapsed("1h")).then("Reminded", waits=["Approved"], expected=["mail.remind"])
    story.when(elapsed("1d")).then("Reminded", expected=["mail.remind", "mail.remind"])
    story.when(elapsed("1h")).then("Escalated")
    story.when(elapsed("3d")).then("Reminded", waits=["Approved"])
    said = [msgspec.json.decode(r.event.data) for r in story.log if r.event.type in ("Reminded", "Escalated")]
    about = {"order_id": "order-1", "reason": "Approved has not come yet"}
    assert said == [{**about, "n": 1}, {**about, "n": 2}, {"order_id": "order-1"}, {**about, "n": 3}]


def test_an_answer_ends_them() -> None:
    """The steps that were triggered before hold the end; those to come do not."""
    story = given(CLAIM, *OPEN, elapsed("1d")).when(foreign("Approved")).then(waits=[])
    story.when("OrderConfirmed").then_nothing().then(status="running", expected=["mail.remind"])
    story.when(event(facts.STEP_COMPLETED, step="mail.remind")).then(facts.FLOW_COMPLETED, status="completed")
    story.when(elapsed("9d")).then_nothing()


def test_the_steps_of_a_reminder_never_satisfy_the_wait() -> None:
    """Its time-out comes all the same."""
    story = given(CLAIM, *OPEN, elapsed("1d"), event(facts.STEP_COMPLETED, step="mail.remind"))
    story.when(elapsed("6d")).then(status="compensating")
    assert story.runs[0].cause == "Approved did not come within 7d: Expired"
    assert [record.event.type for record in story.log].count("Reminded") == 3


def test_a_reminder_that_crosses_the_answer_in_the_log_is_void() -> None:
    """The first of the two counts."""
    story = given(CLAIM, *OPEN)
    (fact,) = due(story.table, story.key, story.state, story.now_ms + DAY_MS)
    story.when(elapsed("23h"), foreign("Approved"), elapsed("1h")).when(fact).then_nothing()
    story.then(expected=["claims.pay"])


def test_a_reminder_that_is_published_twice_counts_once() -> None:
    """Its id and its place in the series are the same after a restart."""
    story = given(CLAIM, *OPEN, elapsed("1d"))
    (record,) = [record for record in story.log if record.event.type == "Reminded"]
    story.when(record.event).then(expected=["mail.remind"])
    assert story.runs[0].waits[0].reminded == 1
    story.when(replace(record.event, id="other")).then(expected=["mail.remind"])


def test_after_an_outage_all_that_were_due_come_in_order() -> None:
    """None is lost: also where the time-out is due as well."""
    story = given(CLAIM, *OPEN)
    found = due(story.table, story.key, story.state, story.now_ms + 8 * DAY_MS)
    assert [fact.type for fact in found] == ["Reminded", "Reminded", "Escalated", "Reminded", "Expired"]
    assert [fact.due_ms for fact in found] == sorted(fact.due_ms for fact in found)
    assert len({fact.id for fact in found}) == 5
    story.now_ms += 8 * DAY_MS
    story.when(*found).then(status="compensating")
    assert sum(pending.step == "mail.remind" for pending in story.runs[0].expected) == 3


def test_reminders_count_no_pause() -> None:
    """One from before the pause is void after the resume."""
    story = given(CLAIM, *OPEN, elapsed("20h"))
    (stale,) = due(story.table, story.key, story.state, story.now_ms + 4 * HOUR_MS)
    story.when(facts.FLOW_PAUSED, elapsed("9d")).then_nothing()
    story.when(facts.FLOW_RESUMED, stale).then(expected=[])
    story.when(elapsed("3h")).then_nothing().when(elapsed("1h")).then("Reminded")


def test_a_reminder_stamped_before_its_time_is_dropped_and_comes_again() -> None:
    """Its id is not remembered."""
    story = given(CLAIM, *OPEN)
    (fact,) = due(story.table, story.key, story.state, story.now_ms + DAY_MS)
    early = Record("order", 0, 2, fact.due_ms - 1, fact)
    state, _ = react(story.table, story.state, early)
    assert state.runs[0].waits[0].reminded == 0
    state, _ = react(story.table, state, replace(early, offset=3, stamp_ms=fact.due_ms))
    assert state.runs[0].waits[0].reminded == 1


def test_a_wait_that_is_not_declared_any_more_reminds_of_nothing() -> None:
    """After a deployment without frozen versions: its time-out still comes."""
    story = given(CLAIM, *OPEN).declared_anew(flow(FILE, PAY, MAIL, CALL)).when(elapsed("2d")).then_nothing()
    assert due(story.table, story.key, story.state, story.now_ms + 9 * DAY_MS)[0].type == facts.STEP_DEADLINE_PASSED


def test_compensation_ends_them() -> None:
    """A reminder read after it triggers nothing."""
    story = given(CLAIM, *OPEN)
    (fact,) = due(story.table, story.key, story.state, story.now_ms + DAY_MS)
    story.when(event(facts.CANCEL_REQUESTED), "Withdrawn").then(status="compensated")
    story.when(elapsed("1d"), fact).then_nothing().then(expected=[])


def test_an_escalation_may_open_the_next_wait() -> None:
    """Either answer is enough where both lead to the same step."""
    boss = WaitDefinition("wait.boss", "Escalated", "BossApproved", DAY_MS, "", then="GivenUp", optional=True)
    pay = replace(PAY, any_of=("Approved", "BossApproved"))
    claim = flow(FILE, pay, MAIL, step("mail.note", "GivenUp", effect=False), waits=(APPROVAL, boss))
    story = given(claim, *OPEN, elapsed("49h")).then(waits=["Approved", "BossApproved"])
    story.when(foreign("BossApproved")).then(waits=["Approved"])
    assert "claims.pay" in [pending.step for pending in story.runs[0].expected]


def test_a_wait_that_is_decided_to_close_asks_no_more() -> None:
    """Its reminders are due no longer in the state, in the row and in its detail; its time-out still is."""
    story = given(CLAIM, *OPEN)
    (run,) = story.state.runs
    run.waits = [replace(wait, closing=True) for wait in run.waits]
    row = view(story.table, 0, story.key, run, {})
    detail = detail_of(row)
    assert row.due_ms == detail.next_due_ms == next_due(story.state) == run.waits[0].due_ms > 0
    assert [about for _, about in detail.timers] == ["the timeout of the wait for Approved"]
    assert due(story.table, story.key, story.state, run.waits[0].due_ms - 1) == []


def test_the_next_due_time_is_that_of_the_next_reminder() -> None:
    """In the state, in the read model, and in a sentence."""
    story = given(CLAIM, *OPEN)
    assert next_due(story.state) == story.now_ms + DAY_MS
    detail = detail_of(view(story.table, 0, story.key, story.runs[0], {}))
    assert detail.next_due_ms == story.now_ms + DAY_MS
    assert [about for _, about in detail.timers] == [
        "reminder 1 of the wait for Approved",
        "the escalation of the wait for Approved",
        "the timeout of the wait for Approved",
    ]
    (sentence,) = waiting_for(detail)
    assert sentence == (
        "Approved from outside, until 2026-01-08T00:00:01.000Z; reminder 1 at 2026-01-02T00:00:01.000Z; "
        "escalation at 2026-01-03T01:00:01.000Z"
    )


def test_reminders_are_the_same_in_json_and_stand_in_the_diagram() -> None:
    """Exported, loaded, divided."""
    assert load(export(CLAIM)) == CLAIM
    drawn = mermaid(CLAIM)
    assert "wait for Approved, 7d, reminds every 1d, 3 at most, escalates after 2d1h" in drawn
    assert '-.->|"Reminded"|' in drawn
    (scaled,) = CLAIM.scaled(24).waits
    assert (scaled.timeout_ms, scaled.remind_ms, scaled.escalate_ms) == (7 * HOUR_MS, HOUR_MS, 7_350_000)
    assert published("error", CLAIM) == published("warning", CLAIM) == []


def test_a_step_after_a_reminder_may_run_more_than_once_and_lies_on_no_cycle() -> None:
    """No bound of hops is asked for."""
    table = FlowTable(CLAIM)
    assert table.cyclic == {"mail.remind"}
    both = flow(FILE, PAY, replace(MAIL, any_of=("Reminded", "Escalated")), waits=(replace(APPROVAL, reminds_max=1),))
    assert FlowTable(both).cyclic == {"mail.remind"}
    assert published("error", both) == []


def claim_with(**changes: object) -> FlowDefinition:
    """Return the claim with its wait changed."""
    return flow(FILE, PAY, MAIL, CALL, waits=(replace(APPROVAL, **changes),))


MISTAKES = {
    "late reminder": (claim_with(remind_ms=7 * DAY_MS), "Reminded never comes: it is due after 7d, and the wait times"),
    "late escalation": (claim_with(escalate_ms=8 * DAY_MS), "Escalated never comes: it is due after 8d"),
    "too many": (claim_with(reminds_max=1_001, remind_ms=1_000), "it may remind 1,001 times. Remind less often"),
    "no number": (claim_with(reminds_max=0), "its reminders lack their event, time or number"),
    "no time": (claim_with(escalate_ms=0), "its escalation lacks its event or its time"),
    "one event": (claim_with(escalate="Reminded"), "Give each wait, and its escalation, an event of its own"),
    "fields": (
        replace(CLAIM, events={**CLAIM.events, "Reminded": ("order_id", "who")}),
        "the tracker publishes it when wait.approval is open and cannot fill in who. Keep only order_id and, if wanted",
    ),
    "a timer": (claim_with(name="timer.t", until=""), "a timer has no reminders. Declare another timer"),
}


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_reminders_that_cannot_work_are_a_mistake(wrong: FlowDefinition, sentence: str) -> None:
    """Each with the place and the remedy."""
    assert any(sentence in found for found in published("error", wrong)), published("error", wrong)


def test_a_reminder_after_the_time_out_is_warned_of() -> None:
    """Some of them come."""
    (found,) = published("warning", claim_with(reminds_max=9))
    assert "only 6 of 9 reminders can come: the wait times out after 7d. Give at_most=6" in found
