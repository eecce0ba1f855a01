"""Ids of traces and spans (W3C Trace Context), derived from ids of choreo: nothing of a trace is stored. Pure.

A run has one trace, and one more for each later segment of it: what follows a long wait, a timer or an operator. The
low half of a trace id derives from the run alone, so that a sampler by ratio, which looks at that half, takes all
segments of a run or none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from choreo.core.ids import derive

_HALF, _SPAN = 16, 16
"""Hexadecimal digits of half a trace id, and of a span id."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


class SpanId(NamedTuple):
    """The place of a span: its trace, itself, and whether it is recorded."""

    trace: str
    span: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """Return the header of W3C Trace Context."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def trace_id(run: str, segment: str = "") -> str:
    """Return the id of a run's trace; `segment` is the id of the event that a later segment begins with."""
    return _digits("segment", run, segment) + _low(run)


def span_id(*parts: object) -> str:
    """Return the id of a span: the same parts, the same span."""
    return _digits("span", *parts)


def is_of_run(trace: str, run: str) -> bool:
    """Return whether a trace id is the id of one of this run's segments."""
    return trace[_HALF:] == _low(run)


def read(traceparent: str) -> SpanId | None:
    """Return the span that a header names; None if the header is malformed or names none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or traceparent.startswith("ff"):
        return None
    trace, span, flags = found.groups()
    if not int(trace, 16) or not int(span, 16):
        return None
    return SpanId(trace, span, bool(int(flags, 16) & _SAMPLED))


@lru_cache(16_384)  # a process handles several steps of a run, and asks at each
def chance(run: str) -> float:
    """Return the number in [0, 1) by which a run is sampled: below the ratio all its traces are recorded."""
    return int(_low(run), 16) / (1 << 64)


@lru_cache(1_024)
def _low(run: str) -> str:
    """Return the low half of the run's trace ids."""
    return _digits("trace", run)


def _digits(*parts: object) -> str:
    # The first digits of a UUIDv5: none of them is fixed but its version, the 13th.
    digits = derive("trace", *parts).replace("-", "")[:_SPAN]
    return digits if digits.strip("0") else "1".rjust(_SPAN, "0")
