"""Promise 5: timer facts are never early and never lost; and no run takes longer than its bound (promise 3).

The wait behind a timer opens at one fact of the run and is settled by others. A timer fact must carry the stamp of
the first plus the declared duration, and a due one must be in the log if nothing else settled the wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.audit.reading import Fact
from tests.audit.shape import ENDS, GENERAL_FAILURES, Durations, Shape

_ANSWERS = (*GENERAL_FAILURES, "choreo.TriggerIgnored")


@dataclass(frozen=True)
class Timer:
    """A wait: its subject, its start, and the fact that reports its timeout."""

    published: str
    about: str
    due_ms: int


def early(facts: Sequence[Fact]) -> Iterator[str]:
    """Yield timer facts that stand in the log before their time."""
    for fact in facts:
        if fact.due_ms and fact.stamp_ms < fact.due_ms:
            yield f"{fact.where} was said {fact.due_ms - fact.stamp_ms} ms before it was due"


def violations(facts: Sequence[Fact], shape: Shape, durations: Durations, now_ms: int) -> Iterator[str]:
    """Read one run's facts, without duplicates; `now_ms` is the newest stamp of the log."""
    timers = {(timer.published, timer.about): timer for timer in _opened(facts, shape, durations)}
    settled = {pair for fact in facts for pair in _settled(fact, shape)}
    compensating = any(fact.type == "choreo.CompensationStarted" for fact in facts)
    ended = any(fact.type in ENDS for fact in facts)
    for fact in facts:
        timer = timers.get((fact.type, _about(fact)))
        if fact.due_ms and timer is not None and timer.due_ms != fact.due_ms:
            yield f"{fact.where} says it was due at {fact.due_ms}; by its declaration it was at {timer.due_ms}"
    published = {(fact.type, _about(fact)) for fact in facts}
    for pair, timer in timers.items():
        forward = timer.published in shape.time_outs or timer.published == "choreo.FlowDeadlinePassed"
        moot = pair in settled or ended or (compensating and forward)
        if pair not in published and not moot and timer.due_ms <= now_ms:
            yield f"{timer.published} was due {now_ms - timer.due_ms} ms before the log's end and was never said"
    if durations.end_ms and ended:
        last = max(fact.stamp_ms for fact in facts if fact.type in ENDS)
        if last - facts[0].stamp_ms > durations.end_ms:
            yield f"it took {last - facts[0].stamp_ms} ms to end, more than its bound of {durations.end_ms} ms"


def _opened(facts: Sequence[Fact], shape: Shape, durations: Durations) -> Iterator[Timer]:
    announced = False
    seen: set[str] = set()
    for fact in facts:
        announced = announced or fact.type == "choreo.CompensationStarted"
        seen.add(fact.type)
        if fact.type == shape.start and durations.flow_ms:
            yield Timer("choreo.FlowDeadlinePassed", "", fact.stamp_ms + durations.flow_ms)
        for wait in shape.waits:
            if fact.type == wait.opens and wait.name in durations.wait_ms and not announced:
                yield Timer(wait.late, "", fact.stamp_ms + durations.wait_ms[wait.name])
        if fact.type == "choreo.CompensationRequested" and fact.step in durations.undo_ms:
            about = f"{fact.entry}/{fact.round}"
            yield Timer("choreo.CompensationDeadlinePassed", about, fact.stamp_ms + durations.undo_ms[fact.step])
        for name, step in shape.steps.items():
            starts = fact.type in step.on and (not step.is_join or seen.issuperset(step.on))
            if starts and name in durations.step_ms and not announced:
                about = f"{name}/{fact.id}"
                yield Timer("choreo.StepDeadlinePassed", about, fact.stamp_ms + durations.step_ms[name])


def _about(fact: Fact) -> str:
    """Return the subject of a timer fact, as `_opened` names it; the flow has one deadline, and a wait one time-out."""
    if fact.type == "choreo.CompensationDeadlinePassed":
        return f"{fact.entry}/{fact.round}"
    if fact.type == "choreo.StepDeadlinePassed":
        return f"{fact.step}/{fact.trigger}"
    return ""


def _settled(fact: Fact, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the timers that this fact makes moot. An answer may come before its wait."""
    step = shape.successes.get(fact.type) or shape.failures.get(fact.type) or fact.step
    if fact.type in shape.successes or fact.type in shape.failures or fact.type in _ANSWERS:
        yield "choreo.StepDeadlinePassed", f"{step}/{fact.causation}"
    if fact.type in shape.undos or fact.type in ("choreo.NothingToCompensate", "choreo.CompensationFailed"):
        for round_ in range(1, fact.round + 1):
            yield "choreo.CompensationDeadlinePassed", f"{fact.entry}/{round_}"
    for wait in shape.waits:
        if fact.type in (*wait.answers, *wait.refusals, wait.late):
            yield wait.late, ""
