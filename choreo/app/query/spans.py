"""Turn a run's timeline into bars: work, waits, backoff, undos; on their axis idle time is short and labelled. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log2
from typing import NamedTuple

from choreo.app.query.timeline import TimelineRow
from choreo.core import facts

GAP_MIN, GAP_MAX = 6.0, 90.0
"""Width of the time between two events: from the first event on it grows with the logarithm, up to the greatest."""
UNIT_MS = 10.0
"""A gap of this length is one step of the logarithm wide."""
STEP = 10.0
LABELLED_MS = 1_000
"""A gap from here on has its length written above it."""


class Bar(NamedTuple):
    """A stretch of time of one row."""

    kind: str
    """`work`, `wait`, `backoff` or `undo`: also its class in the style sheet."""
    label: str
    begin_ms: int
    end_ms: int
    offset: int
    """Of the event that ends it."""


class Mark(NamedTuple):
    """A place on the axis."""

    at_ms: int
    x: float


class Gap(NamedTuple):
    """Idle time that the axis shows shorter than it was."""

    x: float
    width: float
    length_ms: int


class Axis(NamedTuple):
    """The axis: its places, its labelled gaps, and its width."""

    marks: dict[int, float]
    gaps: list[Gap]
    width: float


def bars_of(rows: Sequence[TimelineRow], waits: Iterable[str] = ()) -> list[Bar]:
    """Return the bars, in the order of their ends. `waits`: types of the events that end a wait from outside."""
    found: list[Bar] = []
    failed: dict[str, TimelineRow] = {}
    before_ms, outside = 0, frozenset(waits)
    for row in rows:
        if row.type == facts.STEP_ATTEMPT_FAILED:
            failed[row.step] = row
        elif row.type == facts.STEP_RETRY_DUE and row.step in failed:
            begin = failed.pop(row.step)
            found.append(Bar("backoff", f"{row.step} waits for its next attempt", begin.at_ms, row.at_ms, row.offset))
        elif row.took_ms is not None:
            kind = "undo" if row.compensation else "work"
            found.append(Bar(kind, row.text, row.at_ms - row.took_ms, row.at_ms, row.offset))
        elif row.type in outside or row.kind == "timer":
            found.append(Bar("wait", row.text, before_ms, row.at_ms, row.offset))
        before_ms = row.at_ms
    return found


def axis_of(moments: Iterable[int]) -> Axis:
    """Return an axis with a place for each of these moments, in milliseconds since the run's start."""
    ordered = sorted(set(moments))
    x = 0.0
    marks = dict.fromkeys(ordered[:1], x)
    gaps: list[Gap] = []
    for earlier, later in pairwise(ordered):
        length_ms = later - earlier
        width = min(GAP_MAX, GAP_MIN + STEP * log2(1 + length_ms / UNIT_MS))
        if length_ms >= LABELLED_MS:
            gaps.append(Gap(x, width, length_ms))
        x += width
        marks[later] = x
    return Axis(marks, gaps, x)
