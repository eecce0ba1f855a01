"""Open waits for people: their due times in the read model and in REST, and the timeline of what became of them."""

from __future__ import annotations

from choreo.app.query.history import HistoryRow
from choreo.app.query.status_text import waiting_for
from choreo.app.query.timeline import timeline
from choreo.app.tracking.views import AwaitedEvent, detail_of, view
from choreo.core import facts
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.surfaces.json_format import WaitAnswer
from choreo.testing.given import elapsed, event, foreign, given
from tests.core.test_moving_timers import AT
from tests.core.test_optional_waits import SHOP
from tests.core.test_reminders import CLAIM, OPEN


def row(record: Record) -> HistoryRow:
    """Return the row of a record of a run."""
    fact = record.event
    return HistoryRow(
        topic=record.topic,
        partition=0,
        offset=record.offset,
        stamp_ms=record.stamp_ms,
        id=fact.id,
        type=fact.type,
        run=fact.run,
        step=fact.step,
        causation=fact.causation,
        trigger=fact.trigger,
        attempt=0,
        version=1,
        certain=False,
        entry="",
        round=0,
        due_ms=fact.due_ms,
        reason=fact.reason,
        source=fact.source,
        time_ms=fact.time_ms,
        traceparent="",
        tracestate="",
        baggage="",
        fields={},
    )


def test_the_timeline_tells_reminders_escalations_moments_and_closes() -> None:
    """Each with the name of its wait."""
    claim = given(CLAIM, *OPEN, elapsed("49h"))
    told = [each.text for each in timeline(claim.table, map(row, claim.log)) if each.kind == "timer"]
    because = "Approved has not come yet"
    assert told == [
        f"a reminder of wait.approval: Reminded: {because}",
        f"a reminder of wait.approval: Reminded: {because}",
        f"the escalation of wait.approval: Escalated: {because}",
    ]
    shop = given(SHOP, "OrderPlaced", "OrderConfirmed")
    closed = [each.text for each in timeline(shop.table, map(row, shop.log)) if each.type == facts.WAIT_CLOSED]
    assert closed == ["wait.review is closed: it is optional: all else of the run is done"]
    signed = event("Signed", values={"renews_at": "2026-01-01T01:00:00+00:00"})
    contract = given(AT, "OrderPlaced", signed, elapsed("2h"))
    due = [each.text for each in timeline(FlowTable(AT), map(row, contract.log)) if each.type == "Due"]
    assert due == ["timer.renewal has come to its moment: Due: its time is over"]


def test_an_optional_wait_without_a_time_out_has_no_due_time() -> None:
    """Neither as a number, nor in the sentence."""
    story = given(SHOP, "OrderPlaced")
    detail = detail_of(view(story.table, 0, story.key, story.runs[0], {}))
    assert [about for _, about in detail.timers] == ["the deadline of shop.send"]
    assert waiting_for(detail)[-1] == "Reviewed from outside, unless the run ends before"


def test_rest_has_the_due_times_of_an_open_wait() -> None:
    """One that is not to come is null; the reminders that came are counted."""
    wait = AwaitedEvent("wait.approval", "Approved", 1_000, 9_000, 3_000, 2, 0)
    assert WaitAnswer.model_validate(wait).model_dump(mode="json") == {
        "until": "Approved",
        "since": "1970-01-01T00:00:01.000Z",
        "due": "1970-01-01T00:00:09.000Z",
        "reminder": "1970-01-01T00:00:03.000Z",
        "reminded": 2,
        "escalation": None,
    }


def test_an_answered_wait_is_not_shown() -> None:
    """Its reminders neither."""
    story = given(CLAIM, *OPEN, foreign("Approved"))
    assert detail_of(view(story.table, 0, story.key, story.runs[0], {})).waits == []
