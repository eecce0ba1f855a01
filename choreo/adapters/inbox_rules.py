"""What an inbox answers, as pure functions over remembered rows: every home's inbox decides by these.

A home loads the rows that a batch touches, lets these functions change them, and writes the changed ones back in the
same transaction. Knows no storage, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence

import msgspec

from choreo.adapters.membership import LEASE_MAX_MS
from choreo.core.events import Envelope
from choreo.ports.inbox import Begin, Begun, Hold, Outcome, RunMark


class Remembered(msgspec.Struct):
    """What a service remembers of (trigger, step). `outcome` is None until one is recorded."""

    run: str
    begun: int = 0
    slot: str = ""
    outcome: Sequence[Envelope] | None = None
    holder: str = ""
    held_until_ms: int = 0
    """Until then no other holder begins it; nothing to anybody once there is an outcome."""


Rows = MutableMapping[tuple[str, str], Remembered]
Slots = MutableMapping[tuple[str, str], str]
"""(run, step) → the trigger that holds the slot."""


def held(hold: Hold | None, now_ms: int) -> tuple[str, int]:
    """Whose an attempt is that begins now, and until when."""
    return (hold.holder, now_ms + hold.lease_ms) if hold else ("", 0)


def begin(
    attempts: Iterable[Begin],
    rows: Rows,
    slots: Slots,
    marks: Mapping[str, RunMark],
    hold: Hold | None = None,
    now_ms: int = 0,
) -> tuple[list[Begun], set[tuple[str, str]]]:
    """Count the attempts in `rows` and take `slots`; returns the answers in order, and which rows changed.

    `marks`: of the runs of attempts that are to begin only if theirs is unmarked.
    """
    answers: list[Begun] = []
    changed: set[tuple[str, str]] = set()
    who, until_ms = held(hold, now_ms)
    for attempt in attempts:
        at = (attempt.trigger, attempt.step)
        if attempt.unmarked and attempt.run in marks:
            answers.append(Begun(0, mark=marks[attempt.run]))
            continue
        row = rows.get(at)
        if row is not None and row.outcome is not None:
            answers.append(Begun(0, recorded=tuple(row.outcome)))
            continue
        if attempt.slot:
            holder = slots.setdefault((attempt.slot, attempt.step), attempt.trigger)
            if holder != attempt.trigger:
                answers.append(Begun(0, slot_holder=holder))
                continue
        if row is None:
            row = rows[at] = Remembered(attempt.run)
        elif row.holder != who and 0 < row.held_until_ms - now_ms <= LEASE_MAX_MS:
            answers.append(Begun(0, held_ms=row.held_until_ms - now_ms))
            continue
        row.begun += 1
        row.slot = attempt.slot
        row.holder, row.held_until_ms = who, until_ms
        changed.add(at)
        answers.append(Begun(row.begun))
    return answers, changed


def renew(keys: Iterable[tuple[str, str]], rows: Rows, hold: Hold, now_ms: int) -> set[tuple[str, str]]:
    """Move the end of these holds in `rows`; returns which rows changed."""
    changed = {key for key in keys if key in rows and rows[key].outcome is None and rows[key].holder == hold.holder}
    for key in changed:
        rows[key].held_until_ms = now_ms + hold.lease_ms
    return changed


def record(
    outcomes: Iterable[Outcome], rows: Rows, doubtful_ms: int = -1
) -> tuple[list[Envelope], set[tuple[str, str]]]:
    """Write each outcome into `rows` unless one stands; returns the events to publish, and which rows changed.

    Of triggers stamped up to `doubtful_ms` a row may know too few attempts.
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
    """What is known of a run after one more reading; a lower number of the pause series changes nothing.

    A stop is where it was read first in the log, for a twin of it stands later. One whose place is not known stood
    before all that is read now.
    """
    if known is None:
        return read
    newer = read.pause_n >= known.pause_n
    stops = [mark.stopped_at for mark in (known, read) if mark.turned or mark.ended]
    return RunMark(
        turned=known.turned or read.turned,
        ended=known.ended or read.ended,
        paused=read.paused if newer else known.paused,
        pause_n=max(known.pause_n, read.pause_n),
        stopped_at=min(stops, default=-1),
    )


def _settled(outcome: Outcome, begun: int, doubtful_ms: int) -> list[Envelope]:
    # A row that is not there counts as 0 begun: with `certain_if_begun` 1 a lost memory thus makes nothing certain.
    certain = outcome.certain_if_begun == begun and outcome.stamp_ms > doubtful_ms
    return [e if e.certain is certain else msgspec.structs.replace(e, certain=certain) for e in outcome.events]


def _same(standing: Sequence[Envelope], events: Sequence[Envelope]) -> bool:
    return [(e.id, e.type) for e in standing] == [(e.id, e.type) for e in events]
