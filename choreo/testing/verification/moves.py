"""Moves of the adversary: faults and wishes beside the ordinary course of a flow, each with a count.

Outcomes of handlers, the order of everything, timers and lags are not limited. Each move here has a count, so that the
number of states is finite; `--with pause=2` raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from choreo.core.errors import SettingsError

Budget: TypeAlias = Mapping[str, int]

MOVES: dict[str, str] = {
    "crash": "a host dies before its handler, after the effect, or between inbox and log, and starts again",
    "cancel": "an operator cancels the run",
    "pause": "an operator pauses the run, and resumes it later",
    "operator": "an operator retries or resolves a failed compensation",
    "terminate": "an operator terminates the run",
    "late-success": "an attempt goes on after it was given up: its answer or only its call comes late",
    "late-timer": "a timer fact, or a decision that its run's end has withdrawn, reaches the log late",
    "duplicate": "any record is written once more, at any later time",
    "foreign": "a foreign program writes a step's event again, under another id and without a run",
    "early": "an event from outside comes before its wait, after it, or once more under another id",
    "second-start": "the key is started again under another id",
    "lost-inbox": "a host loses its inbox, also while a handler runs",
    "dead-letter": "a trigger is set aside as a dead letter, and an operator redrives it",
}
"""Name → its meaning, for people."""

DEFAULT: Budget = {"crash": 1}
ALL = "all"


def budget_of(names: str, default: Budget = DEFAULT) -> dict[str, int]:
    """Return the count of each move, from a text such as `cancel,pause=2,crash=0`; `all` adds one of each.

    Raises SettingsError on an unknown name or count.
    """
    found = {name: default.get(name, 0) for name in MOVES}
    for part in filter(None, (each.strip() for each in names.split(","))):
        name, given, count = part.partition("=")
        if name == ALL and not given:
            found = {known: max(1, n) for known, n in found.items()}
            continue
        if name not in MOVES or (given and not count.isdecimal()):
            raise SettingsError(
                f"{part!r:.80} is no move",
                where="--with",
                remedy=f"Name moves of {', '.join(MOVES)} or {ALL}; a count follows a =, as in pause=2.",
            )
        found[name] = int(count) if given else max(1, found[name])
    return found
