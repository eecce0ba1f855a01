"""Canonical forms: states become one state where no rule tells them apart.

Dropped: the position, the present time, times and offsets of changes, orphans, causes of a run, reasons in facts,
carried headers. Offsets that are only compared with each other become ranks; offsets that are only known or unknown
become 0 or -1. A time that was set becomes one of its kind: every order of timers is explored, so that its distance
does not matter, but a time that a pause has moved differs from the one before. Lists that are sets are sorted.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from msgspec.structs import replace

from choreo.core.children import Children
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope
from choreo.core.gates import Gates, Outside
from choreo.core.ledger import IN_DOUBT, SUCCEEDED_AFTER_ALL
from choreo.core.state import UNDONE, KeyState, LedgerEntry, OpenWait, PendingStep, Run

KEY = "k"
NOW_MS = 1_767_225_600_000
"""The present, in every canonical state."""
POSITION = 1_000
"""The offset of the last record, in every canonical state."""
DEADLINE_MS = 1
"""The deadline in a fact that has one: the abstract host does not compare it with a clock."""
LINGER_MS = 10**14
"""Longer than any history here: no run is forgotten on the way."""
_AFTER_MS = 10**9
_PAUSE_MS = 10**7
_STEP_MS = 10**4
_TOKEN = 8  # bytes, as in recent.py


def explored(flow: FlowDefinition) -> FlowDefinition:
    """Return the flow as it is explored: no ended run is forgotten, and only this version runs."""
    return replace(flow, linger_ms=LINGER_MS, frozen=())


def deployed(flow: FlowDefinition) -> FlowDefinition:
    """Return a later version of an explored flow, with the versions that are frozen in it."""
    return replace(flow, linger_ms=LINGER_MS, frozen=tuple(explored(each) for each in flow.frozen))


def due(pause_n: int, place: int = 0) -> int:
    """Return the canonical due time of an item of a run that has read so many facts of the pause series."""
    return NOW_MS + _AFTER_MS + pause_n * _PAUSE_MS + place * _STEP_MS


def state(found: KeyState) -> KeyState:
    """Return the canonical form of a state."""
    return KeyState(POSITION, NOW_MS, [_run(run) for run in found.runs])


def _run(run: Run) -> Run:
    n = run.pause_n
    opened = sorted(entry.opened for entry in run.ledger)
    return replace(
        run,
        started=0,
        started_ms=NOW_MS,
        cause="known" if run.cause else "",
        due_ms=due(n) if run.due_ms else 0,
        expected=sorted((_expected(each, n) for each in run.expected), key=attrgetter("step", "trigger")),
        waits=sorted((_wait(wait, n) for wait in run.waits), key=attrgetter("name")),
        gates=gates(run.gates, n),
        ledger=sorted((_entry(e, n, opened.index(e.opened)) for e in run.ledger), key=attrgetter("step", "id")),
        outbox=[fact(each) for each in run.outbox],
        recent=tokens(run.recent),
        paused_ms=NOW_MS if run.paused_ms else 0,
        ended_ms=NOW_MS if run.ended_ms else 0,
        changed=0,
        changed_ms=NOW_MS,
        taken=sorted(run.taken),
        refused=sorted(run.refused),
        children=tuple(_children(each) for each in run.children),
        carried=None,
        attributed=b"",
    )


def _expected(item: PendingStep, n: int) -> PendingStep:
    due_ms, retry_ms = due(n) if item.due_ms else 0, due(n) if item.retry_ms else 0
    return replace(item, since_ms=NOW_MS, due_ms=due_ms, retry_ms=retry_ms, offset=0, carried=None)


def _wait(wait: OpenWait, n: int) -> OpenWait:
    fixed = 0 if wait.fixed else n
    return replace(
        wait,
        since_ms=NOW_MS,
        due_ms=due(fixed) if wait.due_ms else 0,
        reminder_ms=due(n, 1 + wait.reminded) if wait.reminder_ms else 0,
        escalation_ms=due(n) if wait.escalation_ms else 0,
    )


def _entry(entry: LedgerEntry, n: int, rank: int) -> LedgerEntry:
    if entry.state == UNDONE:  # nothing changes such an entry any more
        return LedgerEntry(entry.id, entry.step, entry.trigger, rank, outcome=0, state=UNDONE)
    cause = entry.cause if entry.cause in ("", IN_DOUBT, SUCCEEDED_AFTER_ALL) else "known"
    return replace(
        entry,
        opened=rank,
        outcome=_known(entry.outcome),
        nothing_rounds=tuple(sorted(entry.nothing_rounds)),
        asked_outcome=_known(entry.asked_outcome),
        due_ms=due(n, entry.round) if entry.due_ms else 0,
        retry_ms=due(n) if entry.retry_ms else 0,
        cause=cause,
        doubted=tuple(sorted(entry.doubted)),
        cleared=tuple(sorted(entry.cleared)),
        carried=None,
    )


def _known(offset: int) -> int:
    return 0 if offset >= 0 else -1


def gates(found: Gates, pause_n: int) -> Gates:
    """Return the canonical form of a run's gates; events of one type keep their order."""
    if found == _NO_GATES:
        return found
    openings = [
        replace(
            opening,
            due_ms=due(pause_n) if opening.due_ms else 0,
            reminder_ms=due(pause_n, 1 + opening.reminded) if opening.reminder_ms else 0,
            escalation_ms=due(pause_n) if opening.escalation_ms else 0,
            carried=None,
        )
        for opening in found.openings
    ]
    members = [replace(member, event=outside(member.event)) for member in found.members]
    return replace(
        found,
        openings=tuple(sorted(openings, key=attrgetter("wait"))),
        kept=tuple(sorted(map(outside, found.kept), key=attrgetter("type"))),
        once=tuple(sorted(found.once)),
        read=tokens(found.read),
        members=tuple(sorted(members, key=lambda member: (member.step, member.event.type))),
        joined=tuple(sorted(found.joined)),
        seen=tuple(replace(seen, offsets=(0,) * min(2, len(seen.offsets))) for seen in _by_type(found)),
    )


_NO_GATES = Gates()


def _by_type(found: Gates) -> Iterable:  # type: ignore[type-arg]
    return sorted(found.seen, key=attrgetter("type"))


def outside(event: Outside) -> Outside:
    """Return an event of a gate without its place in the log: its place in the list counts."""
    return replace(event, offset=0, carried=None)


def _children(known: Children) -> Children:
    ends = sorted((replace(end, reason="") for end in known.ends), key=attrgetter("place"))
    return replace(known, offsets=tuple(map(_known, known.offsets)), ends=tuple(ends))


def tokens(memory: bytes) -> bytes:
    """Return a memory of events in which their order does not count: none is forgotten here for a newer one."""
    if len(memory) <= _TOKEN:
        return memory
    return b"".join(sorted(memory[at : at + _TOKEN] for at in range(0, len(memory), _TOKEN)))


def fact(event: Envelope) -> Envelope:
    """Return a fact or event without the parts that nobody compares: reason, time, and the cause of it here."""
    causation = event.causation
    if causation and causation != event.trigger and event.source.endswith("tracker"):
        causation = "known"
    return replace(
        event,
        reason="",
        time_ms=0,
        causation=causation,
        outcome=_known(event.outcome),
        deadline_ms=DEADLINE_MS if event.deadline_ms else 0,
    )
