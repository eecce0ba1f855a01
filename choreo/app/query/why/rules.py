"""Decide why a run stands still: a list of rules, of which the first that holds is the cause; the rest is also seen.

Pure: the facts are read by `reading`, the words stand in `words`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from choreo.app.query.read_your_writes import token_of
from choreo.app.query.status_text import moment
from choreo.app.query.why.evidence import (
    Evidence,
    Finding,
    after,
    changes_evidence,
    group_evidence,
    name_of,
    named,
    place,
    progress_evidence,
    trigger_evidence,
    unread_evidence,
)
from choreo.app.query.why.facts import RunFacts, StepFacts
from choreo.app.query.why.words import WORDS, Cause
from choreo.core.events import Position
from choreo.core.partition import partition_of
from choreo.core.state import COMPENSATING, FAILED, STUCK, TRUNCATED
from choreo.core.trace_ids import trace_id
from choreo.core.wording import counted

STALL_MS = 30_000
"""A tracker reads a record within milliseconds, and takes a partition of a dead one over within its lease."""
LATE_MS = 5_000
"""A timer's fact is published within a second of its due time."""
GRACE_MS = 60_000
"""Beyond the longest time of all attempts: for queues within the process, and a rebalance."""
LOOP_CHANGES = 3
"""A planned restart of a member is two changes: it leaves, and joins again."""
LOOP_QUIET_MS = 120_000
"""A group that has not changed for so long is at rest, with or without members."""
HOT_PERCENT = 50
HOT_MIN = 10
"""Fewer records than that are no hot key."""


class Also(msgspec.Struct, frozen=True):
    """A further finding, of less weight than the cause."""

    cause: str
    sentence: str


class Why(msgspec.Struct, frozen=True):
    """The answer: one cause, its evidence, and the next command."""

    flow: str
    key: str
    run: str
    status: str
    cause: str
    healthy: bool
    """Whether nothing is wrong."""
    sentence: str
    remedy: str
    command: str
    """The next command; "" where there is nothing to do."""
    evidence: list[Evidence]
    also: list[Also]
    position: str
    """The last event that the answer takes into account."""
    as_of_ms: int

    @property
    def trace(self) -> str:
        """Return the id of the run's first trace."""
        return trace_id(self.run)


Rule: TypeAlias = Callable[[RunFacts], Iterator[Finding]]


def why(facts: RunFacts) -> Why:
    """Return the first finding of a fault as the cause, without one the first; further faults are also seen."""
    found: list[Finding] = []
    for rule in RULES:
        found += rule(facts)
        if found and found[-1].cause is Cause.ENDED:
            break
    first = next((each for each in found if not WORDS[each.cause].healthy), found[0])
    row, words = facts.row, WORDS[first.cause]
    common = {"key": shlex.quote(row.key), "flow": row.flow, "partition": row.partition}
    also = [
        Also(each.cause, WORDS[each.cause].sentence.format(**common, **each.values))
        for each in found
        if each is not first and not WORDS[each.cause].healthy
    ]
    return Why(
        row.flow,
        row.key,
        row.run,
        row.status,
        first.cause,
        words.healthy,
        words.sentence.format(**common, **first.values),
        words.remedy.format(**common, **first.values),
        words.command.format(**common, **first.values),
        list(first.evidence),
        list({each.sentence: each for each in also}.values()),
        token_of(Position(row.flow, row.partition, max(0, facts.shown - 1))),
        facts.now_ms,
    )


def _stale(facts: RunFacts) -> Iterator[Finding]:
    """Hold where the views do not show the log's end."""
    tracker = facts.tracker
    if tracker.lag and not tracker.members:
        yield from _tracker_away(facts)
    elif tracker.lag and facts.now_ms - tracker.unread_ms > STALL_MS:
        member = named(tracker)
        stalled = {"member": member, "since": moment(tracker.unread_ms)}
        yield Finding(Cause.TRACKER_STALLED, stalled, (*group_evidence(tracker), unread_evidence(facts, tracker)))
    elif not facts.reached:
        fills = "tracker" if tracker.lag else "projector"
        values: dict[str, object] = {"shown": facts.shown, "end": facts.end, "fills": fills}
        yield Finding(Cause.READ_MODEL_BEHIND, values, (*group_evidence(tracker),))


def _ended(facts: RunFacts) -> Iterator[Finding]:
    if facts.detail.ended_ms:
        values = {"status": facts.row.status, "reason": after(facts.row.cause)}
        yield Finding(Cause.ENDED, values, (Evidence("ended", facts.row.status, at_ms=facts.detail.ended_ms),))
    elif facts.row.status == TRUNCATED:
        yield Finding(Cause.TRUNCATED, {})


def _no_tracker(facts: RunFacts) -> Iterator[Finding]:
    """Hold where the views are true, and nobody publishes due timers."""
    if not facts.tracker.lag and not facts.tracker.members:
        yield from _tracker_away(facts)


def _tracker_away(facts: RunFacts) -> Iterator[Finding]:
    tracker = facts.tracker
    unread = (unread_evidence(facts, tracker),) if tracker.lag else ()
    values = {"group": tracker.name, "lag": counted(tracker.lag, "record")}
    yield Finding(Cause.TRACKER_AWAY, values, (*group_evidence(tracker), *unread))


def _paused(facts: RunFacts) -> Iterator[Finding]:
    since_ms, fact = facts.detail.paused_ms, facts.paused
    if since_ms:
        seen = (Evidence("paused by", fact.source, place(facts, fact.offset), fact.stamp_ms),) if fact else ()
        values = {"since": moment(since_ms), "reason": after(fact.reason if fact else "")}
        yield Finding(Cause.PAUSED, values, seen)


def _undo(facts: RunFacts) -> Iterator[Finding]:
    """Hold for each effect that only a person can settle."""
    for effect in facts.detail.ledger:
        if effect.state == FAILED:
            cause = Cause.UNDO_IN_DOUBT if effect.in_doubt else Cause.UNDO_FAILED
            values = {"step": effect.step, "round": effect.round, "reason": effect.cause or "no reason is known"}
            evidence = Evidence("effect", f"{effect.step}: {effect.cause}", place(facts, effect.opened))
            yield Finding(cause, values, (evidence,))


def _dead_letter(facts: RunFacts) -> Iterator[Finding]:
    for letter in facts.dead_letters:
        event = letter.record.event
        place = token_of(letter.position)
        moved = bool(event.key) and partition_of(event.key, facts.partitions) != letter.partition
        values = {
            "type": event.type,
            "position": place,
            "reason": letter.cause,
            "letter": letter.id,
            "source": event.source or "its producer",
        }
        evidence = (
            Evidence("dead letter", letter.id, place, letter.set_aside_ms),
            Evidence("set aside by", letter.step or letter.service),
        )
        yield Finding(Cause.WRONG_PARTITION if moved else Cause.DEAD_LETTER, values, evidence)


def _unserved(facts: RunFacts) -> Iterator[Finding]:
    if facts.unserved:
        values = {"version": facts.detail.version, "reason": facts.unserved}
        yield Finding(Cause.VERSION_UNSERVED, values, (Evidence("version", str(facts.detail.version)),))


def _waits_for_its_host(step: StepFacts, now_ms: int) -> bool:
    """Return whether the step's next fact has to come from its service, and not from the tracker or children."""
    return not step.held and step.children is None and step.retry_ms <= 0 and step.since_ms <= now_ms


def _members_fight(facts: RunFacts) -> Iterator[Finding]:
    """Hold where the members of the group come and go, and none of them finishes the step."""
    for step in facts.steps:
        if not _waits_for_its_host(step, facts.now_ms):
            continue
        group = step.group
        values: dict[str, object] = {"service": step.service, "step": name_of(step)}
        evidence = (*group_evidence(group), *changes_evidence(group), trigger_evidence(facts, step))
        for name, times in group.contested.items():
            shared = {"name": name, "times": times}
            yield Finding(Cause.CONTESTED, {**values, **shared}, evidence)
        if group.contested or len(group.changes) < LOOP_CHANGES:
            continue
        first, last = group.changes[-LOOP_CHANGES].at_ms, group.changes[-1].at_ms
        began_ms = max(step.since_ms, group.moved_ms, step.progress_ms)
        if began_ms < first and facts.now_ms - last < LOOP_QUIET_MS:
            count = {"changes": len(group.changes), "since": moment(group.changes[0].at_ms)}
            yield Finding(Cause.REBALANCE_LOOP, {**values, **count}, evidence)


def _no_member(facts: RunFacts) -> Iterator[Finding]:
    for step in facts.steps:
        if not _waits_for_its_host(step, facts.now_ms):
            continue
        group = step.group
        values = {"service": step.service, "step": name_of(step), "since": moment(step.since_ms)}
        if not group.members:
            yield Finding(Cause.NO_MEMBER, values, (*group_evidence(group), trigger_evidence(facts, step)))
        elif group.owner is None:
            members = counted(len(group.members), "member")
            yield Finding(
                Cause.NOT_ASSIGNED,
                {**values, "members": members},
                (*group_evidence(group), trigger_evidence(facts, step)),
            )


def _offset_past(facts: RunFacts) -> Iterator[Finding]:
    for step in facts.steps:
        group = step.group
        if _waits_for_its_host(step, facts.now_ms) and 0 <= step.offset < group.committed:
            values = {
                "service": step.service,
                "committed": group.committed,
                "step": name_of(step),
                "offset": step.offset,
            }
            yield Finding(Cause.OFFSET_PAST, values, (*group_evidence(group), trigger_evidence(facts, step)))


def _working(step: StepFacts, now_ms: int) -> bool:
    """Return whether the trigger stands before a live owner's offset."""
    return _waits_for_its_host(step, now_ms) and step.group.owner is not None and step.offset >= step.group.committed


def _no_progress(facts: RunFacts) -> Iterator[Finding]:
    """Hold for a member that owns the partition and finishes nothing there."""
    for step in facts.steps:
        if not _working(step, facts.now_ms):
            continue
        quiet_ms = facts.now_ms - max(step.since_ms, step.progress_ms if step.before else 0)
        if quiet_ms > step.work_ms + GRACE_MS:
            values = {"member": named(step.group), "step": name_of(step), "since": moment(step.since_ms)}
            evidence = (*group_evidence(step.group), trigger_evidence(facts, step), *progress_evidence(step))
            yield Finding(Cause.NO_PROGRESS, {**values, "service": step.service}, evidence)


def _lag(facts: RunFacts) -> Iterator[Finding]:
    """Hold where a step has waited for longer than one attempt takes, and others stand before it."""
    for step in facts.steps:
        if not _working(step, facts.now_ms) or not step.before or facts.now_ms - step.since_ms <= STALL_MS:
            continue
        before = counted(step.before, "trigger")
        values = {"before": before, "service": step.service, "step": name_of(step)}
        evidence = (*group_evidence(step.group), trigger_evidence(facts, step), *progress_evidence(step))
        if step.before >= HOT_MIN and step.hot_share >= HOT_PERCENT and step.hot_key != facts.row.key:
            hot = {"share": step.hot_share, "hot_key": shlex.quote(step.hot_key)}
            yield Finding(Cause.HOT_KEY, {**values, **hot}, evidence)
        else:
            eta = f", about {step.before / step.rate:,.0f} s of work at the present rate" if step.rate else ""
            yield Finding(Cause.LAG, {**values, "eta": eta}, evidence)


def _timer_late(facts: RunFacts) -> Iterator[Finding]:
    """Hold where a due time has passed and the tracker, which has read everything, did not publish its fact."""
    for due_ms, about in facts.detail.timers:
        if due_ms < facts.now_ms - LATE_MS:
            values = {"about": about, "due": moment(due_ms), "member": named(facts.tracker)}
            yield Finding(
                Cause.TIMER_LATE, values, (Evidence("due", about, at_ms=due_ms), *group_evidence(facts.tracker))
            )


def _steps(facts: RunFacts) -> Iterator[Finding]:
    """Hold for each step that is on its way."""
    for step in facts.steps:
        trigger = trigger_evidence(facts, step)
        if step.children is not None:
            count = step.children
            values = {"step": step.step, "ended": count.ended, "total": count.total, "failed": count.failed}
            yield Finding(Cause.CHILDREN, {**values, "child_flow": step.child_flow}, (trigger,))
        elif step.retry_ms > 0:
            values = {"attempt": step.attempt, "step": name_of(step), "reason": step.failure or "no reason is known"}
            yield Finding(Cause.BACKOFF, {**values, "until": moment(step.retry_ms)}, (trigger,))
        elif _working(step, facts.now_ms):
            until = moment(step.due_ms) if step.due_ms else "it ends"
            values = {"member": named(step.group), "step": name_of(step), "since": moment(step.since_ms)}
            yield Finding(Cause.RUNNING, {**values, "until": until}, (*group_evidence(step.group), trigger))


def _orphan(facts: RunFacts) -> Iterator[Finding]:
    orphan = facts.orphan
    if orphan is not None:
        values = {
            "type": orphan.type,
            "other_key": orphan.key,
            "position": orphan.position,
            "source": orphan.source or "its producer",
            "json": shlex.quote(orphan.json) if orphan.json else "-",
        }
        evidence = Evidence("event without a run", orphan.key, orphan.position, orphan.stamp_ms)
        yield Finding(Cause.ORPHAN, values, (evidence,))


def _waiting(facts: RunFacts) -> Iterator[Finding]:
    for wait in facts.detail.waits:
        until = f"until {moment(wait.due_ms)}" if wait.due_ms else "unless the run ends before"
        evidence = Evidence("waits since", wait.name, at_ms=wait.since_ms)
        yield Finding(Cause.WAITING, {"type": wait.until or wait.name, "until": until}, (evidence,))


def _idle(facts: RunFacts) -> Iterator[Finding]:
    """Hold always: the tracker has all that it needs for the next decision."""
    if facts.row.status in (COMPENSATING, STUCK):
        reason = "the tracker has to read its own decision from the log"
    else:
        reason = "no step is expected and no wait is open; the next event or the deadline decides"
    yield Finding(Cause.IDLE, {"reason": reason})


RULES: tuple[Rule, ...] = (
    _stale,
    _ended,
    _no_tracker,
    _paused,
    _undo,
    _dead_letter,
    _unserved,
    _members_fight,
    _no_member,
    _offset_past,
    _no_progress,
    _lag,
    _timer_late,
    _steps,
    _orphan,
    _waiting,
    _idle,
)
"""The decision list: faults that stop everything first, then those of the run, then of the step, then waits."""
