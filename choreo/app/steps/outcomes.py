"""Outcomes: may a job start, which result follows from its handler's value or error, and its events.

Values in, values out; the host waits, calls and commits. `StepRules` decides, `OutcomeFactory` makes the envelopes
with their derived ids and all that they carry on from the trigger.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any

from msgspec.structs import replace

from choreo.app.dead_letter import dead_letter_of
from choreo.app.failures import JSON, failure_of
from choreo.app.limits import check_size
from choreo.app.steps.child_starts import planned
from choreo.app.steps.handlers import ChildStarts
from choreo.app.steps.hooks import HookFailed
from choreo.app.steps.jobs import AttemptTimedOut, HeartbeatMissed, Job, JobResult
from choreo.app.steps.runs import RunStatus
from choreo.core import facts, ids
from choreo.core.baggage import carried_of, carrying
from choreo.core.durations import human_of
from choreo.core.errors import ChoreoError, NonRetryableError, described, printable
from choreo.core.events import Envelope
from choreo.core.keys import key_text
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import AttemptGrant, Outcome
from choreo.redaction import redact

_log = logging.getLogger(__name__)

LOOK_FIRST_MS, LOOK_MOST_MS = 50, 1_000
"""Delays between looks at an attempt of another process: doubling."""
REASON_CHARS = 500
"""A reason is a sentence in a header, not a stack trace."""


class Verdict(Enum):
    """Whether a job may start now."""

    START = "start"
    DROP = "drop"
    """Nobody expects an outcome: nothing is published."""
    SKIP = "skip"
    HOLD = "hold"


def verdict(job: Job, status: RunStatus, now_ms: int, hops_max: int) -> tuple[Verdict, str]:
    """Return whether the job may start, and why not. Never called for a reaction, which always may."""
    paused = status.paused and not status.ended and job.pause_n < status.pause_n
    overdue = not paused and _deadline_ms(job, status) < now_ms
    if job.spec.undo:
        if status.terminated or overdue:
            return Verdict.DROP, ""  # an operator has ended the run as it is; or the tracker reports the deadline
        return (Verdict.HOLD, "") if paused else (Verdict.START, "")
    if status.stopped or (hops_max and job.event.hops >= hops_max):
        return (Verdict.SKIP, "its run is compensating or ended") if _expected(job, status) else (Verdict.DROP, "")
    if overdue:
        return (
            Verdict.SKIP,
            f"its deadline of {human_of(job.spec.deadline_ms, job.spec.time_scale)} had passed before it could start",
        )
    if paused and job.redriven:
        return Verdict.SKIP, "its run is paused; redrive it again once the run is resumed"
    return (Verdict.HOLD, "") if paused else (Verdict.START, "")


def _expected(job: Job, status: RunStatus) -> bool:
    """Return whether an operator, or the tracker, expects an outcome of a job that may not start.

    The tracker does where the trigger stands before the fact that stopped the run.
    """
    if job.redriven:
        return True
    return status.stopped and (job.called_again or job.record.offset < status.stopped_at)


def _deadline_ms(job: Job, status: RunStatus) -> int:
    """Return the job's deadline; a pause since it was asked for has moved it, by as much as the tracker knows."""
    if status.resumed_ms <= job.source.stamp_ms:
        return job.deadline_ms
    return max(job.deadline_ms, status.resumed_ms + job.spec.deadline_ms)


class StepRules:
    """The results of the jobs of one service in one flow."""

    def __init__(self, factory: OutcomeFactory) -> None:
        """Keep the factory, which makes the events."""
        self._factory = factory

    def skipped(self, job: Job, reason: str, now_ms: int) -> JobResult:
        """Return the result of a job that does not start any more; certain if no attempt has begun."""
        fact = self._factory.outcome_fact(job, facts.STEP_SKIPPED, reason, now_ms)
        return JobResult(outcome(job, [fact], certain_if_begun=0))

    def held(self, job: Job, pause_n: int, now_ms: int) -> JobResult:
        """Return the result of a job whose run is paused; the tracker asks for it again after the resume."""
        return JobResult(facts=(self._factory.held(job, pause_n, now_ms),))

    def not_begun(self, job: Job, begun: AttemptGrant, now_ms: int) -> JobResult:
        """Return the result of an attempt that the inbox refused: it is held, recorded, or the slot is taken."""
        if begun.held_ms:
            # Most handlers end in a moment, and a long one costs one look a second.
            return JobResult(retry_ms=min(begun.held_ms, LOOK_FIRST_MS << job.looks, LOOK_MOST_MS), held=True)
        if begun.slot_holder:
            return self.ignored(job, f"the step runs once a run, and did so for event {begun.slot_holder}", now_ms)
        return JobResult(facts=tuple(begun.recorded))

    def ignored(self, job: Job, reason: str, now_ms: int) -> JobResult:
        """Return the result of a job that its event will never start."""
        return JobResult(facts=(self._factory.ignored(job, reason, now_ms),))

    def set_aside(self, job: Job, error: BaseException, now_ms: int) -> JobResult:
        """Return a dead letter for a record that cannot be handled, and a failure if somebody expects the step."""
        try:
            return self._set_aside(job, error, now_ms)
        except Exception:  # noqa: BLE001 - the host goes on after any record
            _log.exception("step %s: %s cannot be set aside", job.spec.step, job.place)
            return JobResult(failed=True)

    def _set_aside(self, job: Job, error: BaseException, now_ms: int) -> JobResult:
        dead_letter = self._factory.dead_letter(job, described(error), now_ms)
        if job.spec.reaction:
            return JobResult(dead_letter=dead_letter, failed=True)
        type_ = facts.COMPENSATION_FAILED if job.spec.undo else facts.STEP_FAILED
        fact = self._factory.outcome_fact(job, type_, f"set aside: {described(error)}", now_ms, error)
        certain = -1 if job.spec.undo else 0
        return JobResult(outcome(job, [fact], certain_if_begun=certain), dead_letter=dead_letter, failed=True)

    def returned(self, job: Job, value: Any, now_ms: int) -> JobResult:
        """Return the result of a handler that returned events, nothing, or a value that it may not return."""
        spec = job.spec
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        kinds = {type(one) for one in values}
        if kinds and kinds <= spec.successes.keys() and len(values) > len(kinds):
            reason = f"{spec.step} returned {_counted(values)}: of several events of one type only one is handled"
            return self.failed_for_good(job, f"{reason}. Return one event that holds them all", now_ms)
        if kinds and kinds <= spec.successes.keys():
            return self._emitted(job, values, now_ms, success=True)
        if len(values) == 1 and kinds <= spec.failures.keys():
            return self._emitted(job, values, now_ms, success=False)
        if value is None and spec.undo:
            return self._nothing_compensated(job, now_ms)
        if value is None and not spec.successes:
            fact = self._factory.outcome_fact(job, facts.STEP_COMPLETED, "", now_ms)
            return JobResult(outcome(job, [fact], success=True))
        got = " and ".join(sorted(kind.__name__ for kind in kinds)) or "an empty list"
        return self.failed_for_good(job, f"{spec.step} returned {got}, expected {spec.expected}", now_ms)

    def raised(self, job: Job, error: BaseException, now_ms: int, *, hasty: bool = False) -> JobResult:
        """Return whether a failed attempt is repeated soon, later or never. `hasty`: see at once if it still may be."""
        spec, reason = job.spec, _reason_of(job, error)
        error = error.error if isinstance(error, HookFailed) else error
        if isinstance(error, (NonRetryableError, *spec.never)):
            return self.failed_for_good(job, f"{reason} (is not tried again)", now_ms, error)
        if job.attempt >= spec.retry.attempts_max:
            tried = f"{job.attempt} attempts failed, the last one: " if job.attempt > 1 else ""
            return self.failed_for_good(job, tried + reason, now_ms, error)
        delay_ms = spec.retry.delay_ms(job.attempt)
        if hasty:
            return JobResult(retry_ms=0)
        if spec.reaction or job.redriven or delay_ms <= spec.retry.inline_up_to_ms:
            return JobResult(retry_ms=delay_ms)
        return JobResult(facts=(self._factory.attempt_failed(job, reason, now_ms, error),), deferred=True)

    def failed_for_good(self, job: Job, reason: str, now_ms: int, error: BaseException | None = None) -> JobResult:
        """Return a failure without another attempt and without a declared event: in doubt. `error` was raised."""
        if job.spec.reaction:
            return JobResult(dead_letter=self._factory.dead_letter(job, reason, now_ms), failed=True)
        type_ = facts.COMPENSATION_FAILED if job.spec.undo else facts.STEP_FAILED
        fact = self._factory.outcome_fact(job, type_, reason, now_ms, error)
        return JobResult(outcome(job, [fact]), failed=True)

    def _emitted(self, job: Job, values: list[Any], now_ms: int, *, success: bool) -> JobResult:
        try:
            events = self._factory.events(job, values, now_ms)
        except ChoreoError as error:
            return self.failed_for_good(job, f"{job.spec.step} returned an unwritable event: {error}", now_ms)
        other = self._factory.about_another(job, values)
        if other:
            return self.failed_for_good(job, f"{job.spec.step} returned {other}", now_ms)
        # A declared failure is certain to have left no effect only if this attempt was the only one.
        return JobResult(outcome(job, events, success=success, certain_if_begun=-1 if success else 1))

    def planned(self, job: Job, children: ChildStarts, values: list[Any], now_ms: int) -> JobResult:
        """Return the result of a handler that yielded the starts of children."""
        wrong = next((value for value in values if not job.spec.returns(value)), None)
        if wrong is not None:
            reason = f"{job.spec.step} yielded {type(wrong).__name__}, and its children start with {children.type}"
            return self.failed_for_good(job, reason, now_ms)
        try:
            events = self._factory.batches(job, children, values, now_ms)
        except (ChoreoError, TypeError) as error:
            return self.failed_for_good(job, f"{job.spec.step} yielded an unwritable event: {described(error)}", now_ms)
        return JobResult(outcome(job, events, success=True))

    def _nothing_compensated(self, job: Job, now_ms: int) -> JobResult:
        if job.event.outcome >= 0:
            reason = (
                f"the undo of {job.spec.step} was given the outcome and answered nothing. "
                f"Return {' or '.join(job.spec.successes.values())}: None answers only a doubt"
            )
            return self.failed_for_good(job, reason, now_ms)
        fact = self._factory.outcome_fact(job, facts.NOTHING_TO_COMPENSATE, "", now_ms)
        return JobResult(outcome(job, [fact]))


class OutcomeFactory:
    """Makes the events of one service in one flow."""

    def __init__(self, flow: str, service: str, codec: Codec, *, key: str = "", tracebacks: bool = True) -> None:
        """Keep the codec of the events that handlers return; `key` is the flow's key field in them.

        `tracebacks`: whether a failure's payload has the exception and its frames.
        """
        self.flow = flow
        self._key = key
        self._tracebacks = tracebacks
        self.service = service
        self._source = f"choreo/{service}"
        self._codec = codec
        self._bytes_max = 0

    def limit(self, bytes_max: int) -> None:
        """Allow an event's data and key so many bytes together; 0: without a bound."""
        self._bytes_max = bytes_max

    def events(self, job: Job, values: Sequence[Any], now_ms: int) -> list[Envelope]:
        """Return a handler's values as events; raises SchemaError on one that fits its contract or the log not."""
        event, entry = job.event, job.event.entry
        trigger, step, undo = event.id, job.spec.step, job.spec.undo
        # As the idempotency key: after an inbox loss a duplicate trigger produces the same outcome id.
        about = event.run if job.spec.once else trigger
        content_type = self._codec.content_type
        encoded = job.encoded if job.encoded is not None else [self._codec.encode(value) for value in values]
        events = [
            Envelope(
                id=ids.undo(entry, place) if undo else ids.outcome(about, step, place),
                type=type(value).event_type,
                key=event.key,
                flow=self.flow,
                run=event.run,
                step=step,
                causation=trigger,
                attempt=job.attempt,
                version=event.version,
                build=event.build,
                hops=event.hops + 1,
                entry=entry if undo else "",
                round=event.round if undo else 0,
                source=self._source,
                time_ms=now_ms,
                traceparent=job.traceparent,
                tracestate=job.tracestate,
                baggage=event.baggage if job.baggage is None else job.baggage,
                content_type=content_type,
                data=data,
            )
            for place, (value, data) in enumerate(zip(values, encoded, strict=True))
        ]
        for made in events if self._bytes_max else ():
            check_size(made, self._bytes_max, f"step {step}")
        return events

    def batches(self, job: Job, children: ChildStarts, values: Sequence[Any], now_ms: int) -> list[Envelope]:
        """Return the starts of children as `ChildrenPlanned`; raises ChoreoError where one cannot be written."""
        encoded = job.encoded if job.encoded is not None else [self._codec.encode(value) for value in values]
        fact = self._fact(job, facts.CHILDREN_PLANNED, "", "", now_ms, causation=job.event.id)
        about = job.event.run if job.spec.once else job.event.id
        return planned(children, fact, about, values, encoded, self._codec.content_type, self._bytes_max)

    def about_another(self, job: Job, values: Sequence[Any]) -> str:
        """Return a text that names an event about another key than the job's; "" if there is none."""
        key, field = job.event.key, self._key
        for value in values:
            own = getattr(value, field, key)
            if own != key and key_text(own) != key:
                return f"{type(value).event_type} about {key_text(own)!r:.100}, and its own key is {key!r:.100}"
        return ""

    def outcome_fact(
        self, job: Job, type_: str, reason: str, now_ms: int, error: BaseException | None = None
    ) -> Envelope:
        """Make `StepCompleted`, `StepFailed`, `StepSkipped`, `NothingToCompensate` or `CompensationFailed`."""
        cause = job.event.id
        if job.spec.undo:
            kind = "nothing" if type_ == facts.NOTHING_TO_COMPENSATE else "undo-failed"
            id_ = ids.of_round(kind, job.event.entry, job.event.round)
        else:
            # By the cause the tracker distinguishes a redrive that did nothing from the trigger's own outcome.
            cause = job.answered if job.redriven and type_ != facts.STEP_COMPLETED else cause
            id_ = ids.outcome(cause, job.spec.step)
        return self._fact(job, type_, id_, reason, now_ms, causation=cause, error=error)

    def ignored(self, job: Job, reason: str, now_ms: int) -> Envelope:
        """Make `TriggerIgnored`: the event does not start the step, now or later."""
        id_ = ids.answer("ignored", job.event.id, job.spec.step)
        return self._fact(job, facts.TRIGGER_IGNORED, id_, reason, now_ms, causation=job.event.id)

    def held(self, job: Job, pause_n: int, now_ms: int) -> Envelope:
        """Make `StepHeld`, the answer to the record that asked for the step while pause `pause_n` holds its run."""
        id_ = ids.answer("held", job.answered, job.spec.step)
        held = self._fact(job, facts.STEP_HELD, id_, "the run is paused", now_ms, causation=job.answered)
        return replace(held, n=pause_n)

    def attempt_failed(self, job: Job, reason: str, now_ms: int, error: BaseException) -> Envelope:
        """Make `StepAttemptFailed`: the tracker asks for the next attempt when it is due."""
        id_ = ids.attempt_failed(job.event.id, job.spec.step, job.attempt)
        return self._fact(job, facts.STEP_ATTEMPT_FAILED, id_, reason, now_ms, causation=job.event.id, error=error)

    def dead_letter(self, job: Job, cause: str, now_ms: int) -> DeadLetter:
        """Return the job's record as a dead letter of this step, with the headers that a redrive needs."""
        event = carrying(job.record.event, carried_of(job.event))
        if event.build != job.event.build:
            event = replace(event, build=job.event.build)
        record = job.record if event is job.record.event else replace(job.record, event=event)
        return dead_letter_of(record, self.service, job.spec.step, cause, now_ms, made_by=job.spec.step)

    def _fact(
        self,
        job: Job,
        type_: str,
        id_: str,
        reason: str,
        now_ms: int,
        *,
        causation: str,
        error: BaseException | None = None,
    ) -> Envelope:
        event, undo = job.event, job.spec.undo
        failure = failure_of(error) if error is not None and self._tracebacks else b""
        return Envelope(
            id=id_,
            type=type_,
            key=event.key,
            flow=self.flow,
            run=event.run,
            step=job.spec.step,
            causation=causation,
            trigger=event.trigger if undo else event.id,
            attempt=job.attempt or job.failed,
            version=event.version,
            build=event.build,
            hops=event.hops + 1,
            entry=event.entry if undo else "",
            round=event.round if undo else 0,
            reason=_bounded(reason),
            source=self._source,
            time_ms=now_ms,
            traceparent=job.traceparent,
            tracestate=job.tracestate,
            baggage=event.baggage if job.baggage is None else job.baggage,
            content_type=JSON if failure else "",
            data=failure,
        )


def _bounded(text: str) -> str:
    """Return a reason without secrets, then shortened: a secret that is cut in half would not be found."""
    return printable(redact(text), REASON_CHARS) if text else ""


def outcome(job: Job, events: Sequence[Envelope], *, success: bool = False, certain_if_begun: int = -1) -> Outcome:
    """Return the outcome of this job as the inbox records it."""
    # An attempt may have begun before the record was set aside: of a redrive only that none began is certain.
    certain = -1 if job.redriven and certain_if_begun > 0 else certain_if_begun
    return Outcome(job.inbox_id, job.spec.step, job.event.run, events, success, certain, job.record.stamp_ms)


def _counted(values: list[Any]) -> str:
    """Return how many values of each type there are, for people."""
    counts = Counter(type(value).__name__ for value in values)
    return " and ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _reason_of(job: Job, error: BaseException) -> str:
    if isinstance(error, AttemptTimedOut):
        return f"attempt {job.attempt} gave no answer within {human_of(job.spec.timeout_ms, job.spec.time_scale)}"
    if isinstance(error, HeartbeatMissed):
        return f"attempt {job.attempt} {error}"
    if isinstance(error, HookFailed):
        return f"attempt {job.attempt} failed in hook {error.hook} with {described(error.error)}"
    return f"attempt {job.attempt} failed with {described(error)}"
