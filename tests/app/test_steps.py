"""The decisions of "run a step", each as a value."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.app.steps.handlers import Handlers, HandlerSpec
from choreo.app.steps.jobs import Job
from choreo.app.steps.outcomes import Verdict, verdict
from choreo.app.steps.runs import RunStatus
from choreo.core import facts
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from tests.core.order import ORDER
from tests.hosts.harness import flow, payment

TABLE = FlowTable(flow(payment(timeout="10s", deadline="1m")).draft())
HANDLERS = Handlers(payment(timeout="10s", deadline="1m"), TABLE)
FORWARD, UNDO = HANDLERS.forward["payment.charge"], HANDLERS.undo["payment.charge"]
MINUTE_MS = 60_000


def job(
    spec: HandlerSpec = FORWARD,
    *,
    offset: int = 10,
    hops: int = 0,
    woken_ms: int = 0,
    pause_n: int = 0,
    redriven: bool = False,
) -> Job:
    """Return a job with its trigger at this offset, stamped at 0; called for again at `woken_ms`, with a minute to go.

    `pause_n` is the number in the call, or the count of NothingToCompensate in an undo request.
    """
    event = Envelope("id", "Placed", "o-1", "order", run="r", hops=hops, n=0 if woken_ms else pause_n)
    record = Record("order", 0, offset, 0, event)
    call = replace(event, type=facts.STEP_RETRY_DUE, n=pause_n)
    source = Record("order", 0, 99, woken_ms, call) if woken_ms else record
    return Job(spec, record, event, source, "id", "id", woken_ms + spec.deadline_ms, redriven=redriven)


STOPPED_AFTER = RunStatus(stopped=True, stopped_at=11)
STOPPED_BEFORE = RunStatus(stopped=True, stopped_at=9)
STOPPED_LONG_AGO = RunStatus(stopped=True, stopped_at=-1)


@pytest.mark.parametrize(
    ("asked", "status", "now_ms", "expected"),
    [
        (job(), RunStatus(), 0, Verdict.START),
        (job(), STOPPED_AFTER, 0, Verdict.SKIP),
        (job(), STOPPED_BEFORE, 0, Verdict.DROP),
        (job(), STOPPED_LONG_AGO, 0, Verdict.DROP),
        (job(woken_ms=5), STOPPED_LONG_AGO, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), STOPPED_AFTER, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), STOPPED_BEFORE, 0, Verdict.SKIP),
        (job(woken_ms=5, redriven=True), RunStatus(paused=True, pause_n=1), 0, Verdict.SKIP),
        (job(), RunStatus(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(), RunStatus(paused=True, pause_n=1, stopped=True, stopped_at=11), 0, Verdict.SKIP),
        (job(), RunStatus(), MINUTE_MS, Verdict.START),
        (job(), RunStatus(), MINUTE_MS + 1, Verdict.SKIP),
        (job(), RunStatus(paused=True, pause_n=1), MINUTE_MS + 1, Verdict.HOLD),
        (job(), RunStatus(pause_n=2, resumed_ms=MINUTE_MS), 2 * MINUTE_MS, Verdict.START),
        (job(woken_ms=MINUTE_MS), RunStatus(), 2 * MINUTE_MS, Verdict.START),
        (job(woken_ms=MINUTE_MS), RunStatus(pause_n=2, resumed_ms=MINUTE_MS), 2 * MINUTE_MS + 1, Verdict.SKIP),
        (job(woken_ms=MINUTE_MS), RunStatus(pause_n=2, resumed_ms=MINUTE_MS + 1), 2 * MINUTE_MS + 1, Verdict.START),
        (job(hops=2), RunStatus(), 0, Verdict.START),
        (job(hops=3), RunStatus(), 0, Verdict.DROP),
        (job(UNDO), STOPPED_BEFORE, 0, Verdict.START),
        (job(UNDO), RunStatus(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(UNDO), RunStatus(paused=True, pause_n=1, stopped=True, stopped_at=9, ended=True), 0, Verdict.START),
        (job(UNDO), RunStatus(paused=True, pause_n=1, ended=True, terminated=True), 0, Verdict.DROP),
        (job(woken_ms=5, pause_n=2), RunStatus(paused=True, pause_n=1), 0, Verdict.START),
        (job(woken_ms=5, pause_n=2), RunStatus(paused=True, pause_n=3), 0, Verdict.HOLD),
        (job(UNDO, woken_ms=5, pause_n=2), RunStatus(paused=True, pause_n=1), 0, Verdict.START),
        (job(UNDO, pause_n=2), RunStatus(paused=True, pause_n=1), 0, Verdict.HOLD),
        (job(UNDO), STOPPED_BEFORE, UNDO.deadline_ms + 1, Verdict.DROP),
        (job(UNDO), RunStatus(paused=True, pause_n=1), UNDO.deadline_ms + 1, Verdict.HOLD),
    ],
)
def test_whether_a_job_may_start(asked: Job, status: RunStatus, now_ms: int, expected: Verdict) -> None:
    """Turned and ended runs first, then pauses, then the deadline, which stands still while paused."""
    assert verdict(asked, status, now_ms, hops_max=3)[0] is expected


def test_a_host_reads_its_triggers_and_the_facts_that_concern_it() -> None:
    """Everything else is skipped by its header."""
    said_to_hosts = {facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE, facts.REDRIVEN}
    of_runs = {facts.COMPENSATION_STARTED, facts.FLOW_PAUSED, facts.FLOW_RESUMED, *facts.ENDS}
    assert HANDLERS.types == {"Placed", *said_to_hosts, *of_runs}


def test_a_duty_takes_its_durations_from_the_flow() -> None:
    """The flow may be scaled; the declared service is not."""
    scaled = Handlers(payment(timeout="10s", deadline="1m"), FlowTable(TABLE.flow.scaled(10))).forward["payment.charge"]
    assert (FORWARD.timeout_ms, scaled.timeout_ms, scaled.deadline_ms) == (
        10_000,
        *_of(TABLE.flow.scaled(10).steps[0]),
    )


def _of(step: Any) -> tuple[int, int]:
    return step.timeout_ms, step.deadline_ms


def test_steps_that_the_flow_does_not_have_are_no_duties() -> None:
    """A service may serve several flows."""
    assert Handlers(payment(), FlowTable(replace(ORDER, steps=()))).forward == {}


def test_a_version_that_is_not_frozen_starts_no_step_and_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """An event without a version is of the present one, unless version 1 is frozen."""
    second = replace(ORDER, version=2)
    handlers = Handlers(payment(), FlowTable(replace(second, frozen=(second,))))
    with caplog.at_level(logging.ERROR):
        assert [handlers.of(7).by_trigger, handlers.of(7).undo] == [{}, {}]
    (line,) = caplog.messages
    assert "version 7 of flow order is in flight, and flows/order.7.json is not below the schemas" in line
    assert handlers.of(2) is handlers.of(1) is handlers
    both = Handlers(payment(), FlowTable(replace(second, frozen=(ORDER, second))))
    assert both.of(1) is both.versions[1]
    assert Handlers(payment(), FlowTable(TABLE.flow)).of(7).forward
