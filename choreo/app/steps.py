"""The use case "run a step", as decisions: may a job start, and what follows from what its handler did.

Everything here is a value in and a value out; the host waits, calls and commits. The rules are DESIGN.md 5 and 6.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Any

import msgspec

from choreo.app.jobs import Job
from choreo.app.outcomes import Voice, outcome
from choreo.app.runs import Standing
from choreo.core import facts
from choreo.core.durations import human_of
from choreo.core.errors import ChoreoError, NonRetryableError, described
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Begun, Outcome

LOOK_FIRST_MS, LOOK_MOST_MS = 50, 1_000
"""Waits between looks at what another process is at: doubling."""


class Verdict(Enum):
    """Whether a job may start now."""

    START = "start"
    DROP = "drop"
    """Nobody expects it: not even that is said."""
    SKIP = "skip"
    HOLD = "hold"


class AttemptTimedOut(Exception):  # noqa: N818 - what happened to the attempt, not an error of ours
    """An attempt took longer than its step allows."""


class Withdrawn(Exception):  # noqa: N818 - the same
    """The attempt was called off before its handler was called."""


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """What follows for a job. Without `retry_ms` its handling is over."""

    outcome: Outcome | None = None
    """Recorded in the inbox, then published."""
    facts: tuple[Envelope, ...] = ()
    """Published as they are."""
    letter: DeadLetter | None = None
    retry_ms: int = -1
    """The wait in memory for the next attempt; -1: none."""
    put_off: bool = False
    """The next attempt is far off: the tracker will call for it."""
    failed: bool = False
    held: bool = False
    """Another process is at it: the wait is for that one's outcome, no attempt has failed."""


DONE = Conclusion()


def verdict(job: Job, standing: Standing, now_ms: int, hops_max: int) -> tuple[Verdict, str]:
    """Whether the job may start, and why not. A reaction is never asked about."""
    paused = standing.paused and not standing.ended and job.pause_n < standing.pause_n
    overdue = not paused and _deadline_ms(job, standing) < now_ms
    if job.duty.undo:
        if standing.terminated or overdue:
            return Verdict.DROP, ""  # an operator has ended it as it is; or the tracker says that its time is over
        return (Verdict.HOLD, "") if paused else (Verdict.START, "")
    if standing.stopped or (hops_max and job.event.hops >= hops_max):
        return (Verdict.SKIP, "its run is turned back or ended") if _expected(job, standing) else (Verdict.DROP, "")
    if overdue:
        return (
            Verdict.SKIP,
            f"its deadline of {human_of(job.duty.deadline_ms, job.duty.time_scale)} had passed before it could start",
        )
    if paused and job.redriven:
        return Verdict.SKIP, "its run is paused; redrive it again once the run is resumed"
    return (Verdict.HOLD, "") if paused else (Verdict.START, "")


def _expected(job: Job, standing: Standing) -> bool:
    """Whether somebody waits for an outcome of a job that may not start: an operator, or the tracker.

    The tracker waits for it where the trigger stands before the turn.
    """
    if job.redriven:
        return True
    return standing.stopped and (job.woken or job.record.offset < standing.stopped_at)


def _deadline_ms(job: Job, standing: Standing) -> int:
    """When it is given up; a pause since it was called for has moved that, by how much the tracker knows."""
    if standing.resumed_ms <= job.source.stamp_ms:
        return job.deadline_ms
    return max(job.deadline_ms, standing.resumed_ms + job.duty.deadline_ms)


class Steps:
    """What follows, for the jobs of one service in one flow."""

    def __init__(self, voice: Voice) -> None:
        """`voice` says it."""
        self._voice = voice

    def skipped(self, job: Job, reason: str, now_ms: int) -> Conclusion:
        """It does not start any more; certain where no attempt has begun."""
        fact = self._voice.outcome_fact(job, facts.STEP_SKIPPED, reason, now_ms)
        return Conclusion(outcome(job, [fact], certain_if_begun=0))

    def held(self, job: Job, pause_n: int, now_ms: int) -> Conclusion:
        """Its run is paused; the tracker calls for it when the run goes on."""
        return Conclusion(facts=(self._voice.held(job, pause_n, now_ms),))

    def not_begun(self, job: Job, begun: Begun, now_ms: int) -> Conclusion:
        """The inbox refused the attempt: another process is at it, an outcome stands, another trigger had the turn."""
        if begun.held_ms:
            # Most handlers end in a moment, and a long one costs one look a second.
            return Conclusion(retry_ms=min(begun.held_ms, LOOK_FIRST_MS << job.looks, LOOK_MOST_MS), held=True)
        if begun.slot_holder:
            return self.ignored(job, f"the step runs once a run, and did so for event {begun.slot_holder}", now_ms)
        return Conclusion(facts=tuple(begun.recorded))

    def ignored(self, job: Job, reason: str, now_ms: int) -> Conclusion:
        """Its event will never start it."""
        return Conclusion(facts=(self._voice.ignored(job, reason, now_ms),))

    def set_aside(self, job: Job, error: BaseException, now_ms: int) -> Conclusion:
        """Its record cannot be read or handled: a dead letter, and a failure if somebody expects the step."""
        letter = self._voice.letter(job, described(error), now_ms)
        if job.duty.reaction:
            return Conclusion(letter=letter, failed=True)
        type_ = facts.UNDO_FAILED if job.duty.undo else facts.STEP_FAILED
        fact = self._voice.outcome_fact(job, type_, f"set aside: {described(error)}", now_ms, error)
        return Conclusion(outcome(job, [fact], certain_if_begun=-1 if job.duty.undo else 0), letter=letter, failed=True)

    def returned(self, job: Job, value: Any, now_ms: int) -> Conclusion:
        """A handler has returned: its events, nothing, or what it may not return."""
        duty = job.duty
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        kinds = {type(one) for one in values}
        if kinds and kinds <= duty.successes.keys() and len(values) > len(kinds):
            reason = f"{duty.step} returned {_counted(values)}: of several events of one type only one is handled"
            return self.failed_for_good(job, f"{reason}. Return one event that holds them all", now_ms)
        if kinds and kinds <= duty.successes.keys():
            return self._said(job, values, now_ms, success=True)
        if len(values) == 1 and kinds <= duty.failures.keys():
            return self._said(job, values, now_ms, success=False)
        if value is None and duty.undo:
            return self._nothing_undone(job, now_ms)
        if value is None and not duty.successes:
            fact = self._voice.outcome_fact(job, facts.STEP_COMPLETED, "", now_ms)
            return Conclusion(outcome(job, [fact], success=True))
        got = " and ".join(sorted(kind.__name__ for kind in kinds)) or "an empty list"
        return self.failed_for_good(job, f"{duty.step} returned {got}, expected {duty.expected}", now_ms)

    def raised(self, job: Job, error: BaseException, now_ms: int, *, hasty: bool = False) -> Conclusion:
        """An attempt has failed: try again soon, later, or never. `hasty`: look at once whether it still may."""
        duty, reason = job.duty, _reason(job, error)
        if isinstance(error, (NonRetryableError, *duty.never)):
            return self.failed_for_good(job, f"{reason} (is not tried again)", now_ms, error)
        if job.attempt >= duty.retry.attempts_max:
            tried = f"{job.attempt} attempts failed, the last one: " if job.attempt > 1 else ""
            return self.failed_for_good(job, tried + reason, now_ms, error)
        delay_ms = duty.retry.delay_ms(job.attempt)
        if hasty:
            return Conclusion(retry_ms=0)
        if duty.reaction or job.redriven or delay_ms <= duty.retry.inline_up_to_ms:
            return Conclusion(retry_ms=delay_ms)
        return Conclusion(facts=(self._voice.attempt_failed(job, reason, now_ms, error),), put_off=True)

    def failed_for_good(self, job: Job, reason: str, now_ms: int, error: BaseException | None = None) -> Conclusion:
        """No further attempt, and no declared failure either: in doubt. `error`: what the attempt raised."""
        if job.duty.reaction:
            return Conclusion(letter=self._voice.letter(job, reason, now_ms), failed=True)
        type_ = facts.UNDO_FAILED if job.duty.undo else facts.STEP_FAILED
        fact = self._voice.outcome_fact(job, type_, reason, now_ms, error)
        return Conclusion(outcome(job, [fact]), failed=True)

    def _said(self, job: Job, values: list[Any], now_ms: int, *, success: bool) -> Conclusion:
        try:
            events = self._voice.events(job, values, now_ms)
        except ChoreoError as error:
            return self.failed_for_good(job, f"{job.duty.step} returned what cannot be written: {error}", now_ms)
        stranger = self._voice.about_another(job, values)
        if stranger:
            return self.failed_for_good(job, f"{job.duty.step} returned {stranger}", now_ms)
        # A declared failure leaves nothing for certain only where the attempt that says so was the only one.
        return Conclusion(outcome(job, events, success=success, certain_if_begun=-1 if success else 1))

    def _nothing_undone(self, job: Job, now_ms: int) -> Conclusion:
        if job.event.outcome >= 0:
            reason = (
                f"the undo of {job.duty.step} was given the outcome and answered nothing. "
                f"Return {' or '.join(job.duty.successes.values())}: None answers only a doubt"
            )
            return self.failed_for_good(job, reason, now_ms)
        fact = self._voice.outcome_fact(job, facts.NOTHING_TO_UNDO, "", now_ms)
        return Conclusion(outcome(job, [fact]))


def _counted(values: list[Any]) -> str:
    """How many of each type, for people."""
    counts = Counter(type(value).__name__ for value in values)
    return " and ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _reason(job: Job, error: BaseException) -> str:
    if isinstance(error, AttemptTimedOut):
        return f"attempt {job.attempt} gave no answer within {human_of(job.duty.timeout_ms, job.duty.time_scale)}"
    return f"attempt {job.attempt} failed with {described(error)}"
