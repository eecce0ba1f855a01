"""The decisions of "run a step", each as a value."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from choreo.app.duties import Duties, Duty
from choreo.app.jobs import Job
from choreo.app.runs import Standing
from choreo.app.steps import Verdict, verdict
from choreo.core import facts
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from tests.core.order import ORDER
from tests.hosts.stage import flow, payment

TABLE = FlowTable(flow(payment(timeout="10s", deadline="1m")).draft())
DUTIES = Duties(payment(timeout="10s", deadline="1m"), TABLE)
FORWARD, UNDO = DUTIES.forward["payment.charge"], DUTIES.undo["payment.charge"]
MINUTE_MS = 60_000


def job(
    duty: Duty = FORWARD,
    *,
    offset: int = 10,
    hops: int = 0,
    woken_ms: int = 0,
    pause_n: int = 0,
    redriven: bool = False,
) -> Job:
    """A job whose trigger stands at this offset, stamped at 0; called for again at `woken_ms`, with a minute to go.

    `pause_n` is the number in the call, or the count of NothingToUndo in an undo request.
    """
    event = Envelope("id", "Placed", "o-1", "order", run="r", hops=hops, n=0 if woken_ms else pause_n)
    record = Record("order", 0, offset, 0, event)
    call = replace(event, type=facts.STEP_RETRY_DUE, n=pause_n)
    source = Record("order", 0, 99, woken_ms, call) if woken_ms else record
    return Job(duty, record, event, source, "id", "id", woken_ms + duty.deadline_ms, redriven=redriven)


STOPPED_AFTER = Standing(stopped=True, stopped_at=11)
STOPPED_BEFORE = Standing(stopped=True, stopped_at=9)
STOPPED_LONG_AGO = Standing(stopped=True, stopped_at=-1)


@pytest.mark.parametrize(
    ("asked", "standing", "now_ms", "expected"),
    [
        (job(), Standing(), 0, Verdict.START),
        (job(), STOPPED_AFTER, 0, Verdict.SKIP),
        (job(), STOPPED_BEFORE, 0, Verdict.DROP),
        (job(), STOPPED_LONG_AGO, 0, Verdict.DROP),
        (job(woken_ms=5), STOPPED_LONG_AGO, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), STOPPED_AFTER, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), STOPPED_BEFORE, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), Standing(paused=True, pause_n=1), 0, Verdict.SKIP),
        (job(), Standing(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(), Standing(paused=True, pause_n=1, stopped=True, stopped_at=11), 0, Verdict.SKIP),
        (job(), Standing(), MINUTE_MS, Verdict.START),
        (job(), Standing(), MINUTE_MS + 1, Verdict.SKIP),
        (job(), Standing(paused=True, pause_n=1), MINUTE_MS + 1, Verdict.HOLD),
        (job(), Standing(pause_n=2, resumed_ms=MINUTE_MS), 2 * MINUTE_MS, Verdict.START),
        (job(woken_ms=MINUTE_MS), Standing(), 2 * MINUTE_MS, Verdict.START),
        (job(woken_ms=MINUTE_MS), Standing(pause_n=2, resumed_ms=MINUTE_MS), 2 * MINUTE_MS + 1, Verdict.SKIP),
        (job(woken_ms=MINUTE_MS), Standing(pause_n=2, resumed_ms=MINUTE_MS + 1), 2 * MINUTE_MS + 1, Verdict.START),
        (job(hops=2), Standing(), 0, Verdict.START),
        (job(hops=3), Standing(), 0, Verdict.DROP),
        (job(UNDO), STOPPED_BEFORE, 0, Verdict.START),
        (job(UNDO), Standing(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(UNDO), Standing(paused=True, pause_n=1, stopped=True, stopped_at=9, ended=True), 0, Verdict.START),
        (job(UNDO), Standing(paused=True, pause_n=1, ended=True, terminated=True), 0, Verdict.DROP),
        (job(woken_ms=5, pause_n=2), Standing(paused=True, pause_n=1), 0, Verdict.START),
        (job(woken_ms=5, pause_n=2), Standing(paused=True, pause_n=3), 0, Verdict.HOLD),
        (job(UNDO, woken_ms=5, pause_n=2), Standing(paused=True, pause_n=1), 0, Verdict.START),
        (job(UNDO, pause_n=2), Standing(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(UNDO), STOPPED_BEFORE, UNDO.deadline_ms + 1, Verdict.DROP),
        (job(UNDO), Standing(paused=True, pause_n=1), UNDO.deadline_ms + 1, Verdict.HOLD),
    ],
)
def test_whether_a_job_may_start(asked: Job, standing: Standing, now_ms: int, expected: Verdict) -> None:
    """Turned and ended runs first, then pauses, then the deadline, which stands still while paused."""
    assert verdict(asked, standing, now_ms, hops_max=3)[0] is expected


def test_a_host_reads_its_triggers_and_the_facts_that_concern_it() -> None:
    """Everything else is skipped by its header."""
    said_to_hosts = {facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE, facts.REDRIVEN}
    of_runs = {facts.FLOW_TURNED, facts.FLOW_PAUSED, facts.FLOW_RESUMED, *facts.ENDS}
    assert DUTIES.types == {"Placed", *said_to_hosts, *of_runs}


def test_a_duty_takes_its_durations_from_the_flow() -> None:
    """The flow may be scaled; the declared service is not."""
    scaled = Duties(payment(timeout="10s", deadline="1m"), FlowTable(TABLE.flow.scaled(10))).forward["payment.charge"]
    assert (FORWARD.timeout_ms, scaled.timeout_ms, scaled.deadline_ms) == (
        10_000,
        *_of(TABLE.flow.scaled(10).steps[0]),
    )


def _of(step: Any) -> tuple[int, int]:
    return step.timeout_ms, step.deadline_ms


def test_steps_that_the_flow_does_not_have_are_no_duties() -> None:
    """A service may serve several flows."""
    assert Duties(payment(), FlowTable(replace(ORDER, steps=()))).forward == {}
