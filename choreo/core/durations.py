"""Durations as users write them ("30s", "24h", "2d") and as the core calculates with them: whole milliseconds."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TypeAlias

from choreo.core.errors import DeclarationError

Duration: TypeAlias = str | int | float
"""A text such as "30s", "1h30m", "250ms", or a number of seconds."""

ATTEMPT_FLOOR_MS = 1_000
"""Shortest attempt after a division of durations: work takes as long as ever, only waiting is shortened."""

DURATION_MAX_MS = 31_556_952_000_000
"""A thousand years: any present time plus this is still a year that calendars and stores can hold."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def milliseconds(value: Duration, where: str = "") -> int:
    """Convert a duration to whole milliseconds; raises DeclarationError unless it is from 0 to a thousand years."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _refused(value, where)
    if isinstance(value, (int, float)):
        if not value >= 0:  # also not a number
            raise _refused(value, where)
        return _bounded(_exact(value) * 1_000 if value < math.inf else math.inf, value, where)
    text = value.strip().replace(" ", "")
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _refused(value, where)
    return _bounded(sum(Fraction(number) * _UNITS_MS[unit] for number, unit in parts), value, where)


def _exact(value: float) -> Fraction:
    """Return a number exactly as it is written: 0.1 is a tenth."""
    return Fraction(str(value))


def _bounded(duration_ms: Fraction | float, value: object, where: str) -> int:
    """Return the duration in whole milliseconds; raises DeclarationError on a fraction of one, or if too long."""
    if duration_ms > DURATION_MAX_MS:
        raise DeclarationError(
            f"{value!r:.60} is longer than a thousand years",
            where=where,
            remedy='Leave it out where nothing is bounded, or write such as "3650d".',
        )
    if duration_ms % 1:
        raise DeclarationError(
            f"{value!r:.60} is no whole number of milliseconds",
            where=where,
            remedy='Milliseconds are the finest: write such as "250ms", or 0.25 for seconds.',
        )
    return int(duration_ms)


def human(duration_ms: int) -> str:
    """Write a duration in the largest units that divide it: 90000 → "1m30s"."""
    if duration_ms == 0:
        return "0s"
    text, rest = "", duration_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            text += f"{count}{unit}"
    return text


def human_of(duration_ms: int, divided_by: float) -> str:
    """Write a duration as `human` does; after a division (CHOREO_TIME_SCALE) add the divisor."""
    return human(duration_ms) if divided_by == 1 else f"{human(duration_ms)} (time scale {divided_by:g})"


def _refused(value: object, where: str) -> DeclarationError:
    return DeclarationError(
        f"{value!r} is not a duration",
        where=where,
        remedy='Write it as "30s", "5m", "24h", "2d" or a number of seconds.',
    )


def scaled_heartbeat(heartbeat_ms: int, by: float) -> int:
    """Return a divided heartbeat; never so short that a handler, which runs no faster, could not report in time."""
    return max(round(heartbeat_ms / by), min(heartbeat_ms, ATTEMPT_FLOOR_MS))
