"""The books of one outside system, as values: idempotent by key, undone by key, able to bar a key it has not seen.

The ground truth of the exploration: an effect is present, undone or barred, also where the ledger believes otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ABSENT: Final = ""
PRESENT: Final = "present"
UNDONE: Final = "undone"
BARRED: Final = "barred"


class Effect(NamedTuple):
    """The memory of an outside system about one key."""

    key: str
    status: str = ABSENT
    maker: str = ""
    """The trigger of the attempt that has made it."""
    answers: tuple[tuple[str, bool], ...] = ()
    """Key of a compensation → whether there was something to undo; the same key, the same answer."""


def act(effect: Effect, maker: str = "", *, stubborn: bool = False) -> tuple[Effect, bool]:
    """Make the effect unless it was made or barred; return whether it was made. A stubborn call gets past a bar."""
    if not effect.status or (effect.status == BARRED and stubborn):
        return effect._replace(status=PRESENT, maker=maker), True
    return effect, effect.status != BARRED


def undo(effect: Effect, compensation_key: str) -> tuple[Effect, bool]:
    """Undo the effect, or bar its key where there is none; return whether there was one."""
    for known, answer in effect.answers:
        if known == compensation_key:
            return effect, answer
    found = effect.status in (PRESENT, UNDONE)
    status = UNDONE if found else BARRED
    return effect._replace(status=status, answers=(*effect.answers, (compensation_key, found))), found
