"""The rules of an inbox, as pure functions over stored rows: every backend's inbox decides by these.

A backend loads the rows of a batch, lets these functions change them, and writes the changed ones back in the same
transaction. Knows no storage, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence

import msgspec

from choreo.adapters.assignment import LEASE_MAX_MS
from choreo.core.events import Envelope
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, Outcome, RunMark


class Remembered(msgspec.Struct):
    """The stored row of a service for (trigger, step). `outcome` is None until one is recorded."""

    run: str
    begun: int = 0
    slot: str = ""
    outcome: Sequence[Envelope] | None = None
    holder: str = ""
    held_until_ms: int = 0
    """End of the lease: until then no other holder begins the attempt; without meaning once there is an outcome."""


Rows = MutableMapping[tuple[str, str], Remembered]
Slots = MutableMapping[tuple[str, str], str]
"""(run, step) → the trigger that holds the slot."""


def held(lease: AttemptLease | None, now_ms: int) -> tuple[str, int]:
    """Return the holder of an attempt that begins now, and the end of its lease."""
    return (lease.holder, now_ms + lease.lease_ms) if lease else ("", 0)


def begin(
    attempts: Iterable[AttemptRequest],
    rows: Rows,
    slots: Slots,
    marks: Mapping[str, RunMark],
    lease: AttemptLease | None = None,
    now_ms: int = 0,
) -> tuple[list[AttemptGrant], set[tuple[str, str]]]:
    """Count the attempts in `rows` and take `slots`; returns the answers in order, and the keys of changed rows.

    `marks`: of the runs of attempts that are to begin only if theirs is unmarked.
    """
    answers: list[AttemptGrant] = []
    changed: set[tuple[str, str]] = set()
    holder, until_ms = held(lease, now_ms)
    for attempt in attempts:
        at = (attempt.trigger, attempt.step)
        if attempt.unmarked and attempt.run in marks:
            answers.append(AttemptGrant(0, mark=marks[attempt.run]))
            continue
        row = rows.get(at)
        if row is not None and row.outcome is not None:
            answers.append(AttemptGrant(0, recorded=tuple(row.outcome)))
            continue
        if attempt.slot:
            first = slots.setdefault((attempt.slot, attempt.step), attempt.trigger)
            if first != attempt.trigger:
                answers.append(AttemptGrant(0, slot_holder=first))
                continue
        if row is None:
            row = rows[at] = Remembered(attempt.run)
        elif row.holder != holder and 0 < row.held_until_ms - now_ms <= LEASE_MAX_MS:
            answers.append(AttemptGrant(0, held_ms=row.held_until_ms - now_ms))
            continue
        row.begun += 1
        row.slot = attempt.slot
        row.holder, row.held_until_ms = holder, until_ms
        changed.add(at)
        answers.append(AttemptGrant(row.begun))
    return answers, changed


def renew(keys: Iterable[tuple[str, str]], rows: Rows, lease: AttemptLease, now_ms: int) -> set[tuple[str, str]]:
    """Move the end of these leases in `rows`; return the keys of changed rows."""
    changed = {key for key in keys if key in rows and rows[key].outcome is None and rows[key].holder == lease.holder}
    for key in changed:
        rows[key].held_until_ms = now_ms + lease.lease_ms
    return changed


def record(
    outcomes: Iterable[Outcome], rows: Rows, doubtful_ms: int = -1
) -> tuple[list[Envelope], set[tuple[str, str]]]:
    """Write each outcome into `rows` unless one is there; return the events to publish, and the keys of changed rows.

    For triggers stamped up to `doubtful_ms` a row may count too few attempts.
    """
    published: list[Envelope] = []
    changed: set[tuple[str, str]] = set()
    for outcome in outcomes:
        at = (outcome.trigger, outcome.step)
        row = rows.get(at)
        if row is None:
            row = rows[at] = Remembered(outcome.run)
        if row.outcome is None:
            row.outcome = _settled(outcome, row.begun, doubtful_ms)
            changed.add(at)
            published.extend(row.outcome)
        elif _same(row.outcome, outcome.events):
            published.extend(row.outcome)
        elif outcome.success:
            published.extend(_settled(outcome, row.begun, doubtful_ms))
    return published, changed


def merged(known: RunMark | None, read: RunMark) -> RunMark:
    """Return the facts about a run after one more reading; a lower number of the pause series changes nothing.

    A stop is at its first place in the log, because duplicates of it come later. A stop with an unknown place came
    before everything that is read now.
    """
    if known is None:
        return read
    newer = read.pause_n >= known.pause_n
    stops = [mark.stopped_at for mark in (known, read) if mark.compensating or mark.ended]
    return RunMark(
        compensating=known.compensating or read.compensating,
        ended=known.ended or read.ended,
        paused=read.paused if newer else known.paused,
        pause_n=max(known.pause_n, read.pause_n),
        stopped_at=min(stops, default=-1),
    )


def _settled(outcome: Outcome, begun: int, doubtful_ms: int) -> list[Envelope]:
    # A missing row counts as 0 begun: with `certain_if_begun` 1 a lost inbox thus makes nothing certain.
    certain = outcome.certain_if_begun == begun and outcome.stamp_ms > doubtful_ms
    return [e if e.certain is certain else msgspec.structs.replace(e, certain=certain) for e in outcome.events]


def _same(existing: Sequence[Envelope], events: Sequence[Envelope]) -> bool:
    return [(e.id, e.type) for e in existing] == [(e.id, e.type) for e in events]
