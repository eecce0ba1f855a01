"""Books of a simulated outside system: its effects by idempotency key. Simulation and tests check that they add up.

A gateway of the project calls `apply` and `undo`; the books refuse a barred key, repeat an answer, and keep everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from choreo.core.context import StepContext
from choreo.core.state import COMPENSATED, COMPLETED

APPLIED: Final = "applied"
UNDONE: Final = "undone"
BARRED: Final = "barred"


class KeyBarredError(Exception):
    """The key was undone before it was used: it must not be used any more."""


class Effect(msgspec.Struct):
    """One effect in an outside system."""

    key: str
    run: str
    step: str
    status: str
    value: Any = None
    calls: int = 0
    undos: dict[str, bool] = {}
    """Key of a compensation → whether there was something to undo."""


class Books:
    """The books of one outside system. `Books.opened` has those of this process."""

    opened: Sequence[Books] = ()

    def __init__(self, name: str) -> None:
        """Be empty."""
        self.name = name
        self._effects: dict[str, Effect] = {}
        Books.opened = (*Books.opened, self)

    @property
    def effects(self) -> list[Effect]:
        """Return every effect, in order."""
        return list(self._effects.values())

    def clear(self) -> None:
        """Forget everything."""
        self._effects.clear()

    def apply(self, ctx: StepContext, value: Any = None) -> Any:
        """Make the effect of a step once for its idempotency key; return the value of the first call.

        Raises KeyBarredError where the effect was undone, or its key barred.
        """
        effect = self._effects.setdefault(
            ctx.idempotency_key, Effect(ctx.idempotency_key, ctx.run, ctx.step, APPLIED, value)
        )
        effect.calls += 1
        if effect.status != APPLIED:
            raise KeyBarredError(f"{self.name}: the effect of {ctx.step} for {ctx.key} was called off")
        return effect.value

    def undo(self, ctx: StepContext) -> bool:
        """Undo the effect of `ctx.undoes`; return False if there is none, and then there never will be."""
        effect = self._effects.setdefault(ctx.undoes, Effect(ctx.undoes, ctx.run, ctx.step, BARRED))
        if ctx.idempotency_key not in effect.undos:
            effect.undos[ctx.idempotency_key] = effect.status != BARRED
            if effect.status == APPLIED:
                effect.status = UNDONE
        return effect.undos[ctx.idempotency_key]

    def faults(self, statuses: Iterable[tuple[str, str]]) -> list[str]:
        """Return where the books do not fit the ends of the runs (run, status), as sentences."""
        ends = dict(statuses)
        found = []
        for effect in self._effects.values():
            where = f"{self.name}: the effect of {effect.step} in run {effect.run}"
            end = ends.get(effect.run, "")
            if not end:
                found.append(f"{where} belongs to no known run")
            elif end == COMPENSATED and effect.status == APPLIED:
                found.append(f"{where} stands, and the run is compensated")
            elif end == COMPLETED and effect.status == UNDONE:
                found.append(f"{where} was undone, and the run has completed")
            if sum(effect.undos.values()) > 1:
                found.append(f"{where} was undone {sum(effect.undos.values())} times")
        return found
