"""How outside systems misbehave on purpose: chosen by marks in an order's own data, so that a test can place any kind.

Marks are joined by "+", some with a number: "visa+flaky:2". Every count is kept in the books, so that a crash changes
nothing. Seconds are divided by CHOREO_TIME_SCALE.

flaky:N  the first N calls fail before anything is done    lost    done, but the answer never comes: nobody knows
late:S   done; the first call answers after S seconds      mute:S  done; every call answers after S seconds
slow:S   every call starts only after S seconds
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from services.gateways.errors import AnswerLostError, GatewayError

_PAUSE_FLOOR_S = 1.5
"""Divided timeouts leave an attempt one second; a divided pause that is to outlast it must be longer."""


def marks(text: str) -> dict[str, float]:
    """The marks in a text with their numbers (0 where there is none): "visa+flaky:2" → {"visa": 0, "flaky": 2}."""
    found = {}
    for part in text.split("+"):
        word, _, number = part.partition(":")
        found[word] = float(number) if number.replace(".", "", 1).isdecimal() else 0.0
    return found


def before(marked: Mapping[str, float], call: int) -> None:
    """Return the fault before the work of this call (1, 2, …)."""
    fail_first(marked.get("flaky", 0), call)
    _pause(marked.get("slow", 0))


def after(marked: Mapping[str, float], call: int) -> None:
    """Return the fault after the work of this call."""
    _pause(marked.get("mute", 0) or (marked.get("late", 0) if call == 1 else 0))
    if "lost" in marked:
        raise AnswerLostError("the connection broke before the answer came")


def fail_first(count: float, call: int) -> None:
    """Fail the first so many calls."""
    if call <= count:
        raise GatewayError(f"busy, call {call} of {count:g} that fail")


def _pause(declared_s: float) -> None:
    if declared_s:
        scale = float(os.environ.get("CHOREO_TIME_SCALE", "1"))
        time.sleep(max(declared_s / scale, min(declared_s, _PAUSE_FLOOR_S)))
