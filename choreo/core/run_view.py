"""The public view of a run's state, on which a flow's own invariants are stated. Pure.

`verify` and `simulate` call every invariant on every state of every run; both ask `broken` for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from choreo.core.errors import described
from choreo.core.flow_table import FlowTable
from choreo.core.state import FAILED, OPEN, REQUESTED, LedgerEntry, Run

Status: TypeAlias = Literal[
    "running", "paused", "compensating", "completed", "compensated", "stuck", "terminated", "truncated"
]
EffectState: TypeAlias = Literal["open", "requested", "undone", "nothing", "failed", "resolved"]

_STANDING = frozenset({OPEN, REQUESTED, FAILED})


class EffectView(msgspec.Struct, frozen=True):
    """The effect of one step, as the ledger knows it."""

    step: str
    state: EffectState
    """`requested`: its compensation is under way. `nothing`: there was nothing to undo. `resolved`: by a person."""
    in_doubt: bool
    """Whether it stands, and it is unknown if there is an effect."""

    @property
    def stands(self) -> bool:
        """Return whether the effect is, or may be, in the world."""
        return self.state in _STANDING


class RunView(msgspec.Struct, frozen=True):
    """One state of one run, between two events of the log."""

    flow: str
    key: str
    run: str
    version: int
    status: Status
    ended: bool
    """Whether its end stands in the log."""
    completed_by: str
    """The type of the event that completes it, once that was read; "" before."""
    outcome: str
    """The name of that event in `completes=`, where the flow names its outcomes."""
    expected: tuple[str, ...]
    """Steps with a trigger and without an outcome."""
    waits: tuple[str, ...]
    """Waits and timers that are open."""
    effects: tuple[EffectView, ...]
    """Effects of steps with a compensation, in the order in which they came about."""

    def effect(self, step: str) -> EffectView | None:
        """Return the newest effect of this step; None if there is none."""
        return next((effect for effect in reversed(self.effects) if effect.step == step), None)

    def stands(self, step: str) -> bool:
        """Return whether an effect of this step is, or may be, in the world."""
        return any(effect.step == step and effect.stands for effect in self.effects)


Invariant: TypeAlias = Callable[[RunView], bool | str]
"""A rule that holds in every state of every run: returns True, or False or a message where it is broken."""


def view_of(table: FlowTable, key: str, run: Run) -> RunView:
    """Return the public view of a run; `table` is the one of its version."""
    return RunView(
        flow=table.flow.name,
        key=key,
        run=run.id,
        version=run.version,
        status=run.shown,  # type: ignore[arg-type]  # one of STATUSES
        ended=run.ended,
        completed_by=run.completed_by,
        outcome=table.flow.outcomes.get(run.completed_by, ""),
        expected=tuple(expected.step for expected in run.expected),
        waits=tuple(wait.name for wait in run.waits),
        effects=tuple(map(_effect, sorted(run.ledger, key=_opened))),
    )


def _opened(entry: LedgerEntry) -> int:
    return entry.opened


def _effect(entry: LedgerEntry) -> EffectView:
    return EffectView(entry.step, entry.state, entry.in_doubt and entry.state in _STANDING)  # type: ignore[arg-type]  # one of the ledger's states


def broken(invariant: Invariant, view: RunView) -> str:
    """Return why an invariant does not hold for this state; "" if it does.

    An invariant that raises, or returns neither a bool nor a text, does not hold: the reason names the mistake.
    """
    try:
        verdict: object = invariant(view)
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return f"it raised {described(error)}"
    if isinstance(verdict, str):
        return verdict
    if verdict is True:
        return ""
    if verdict is False:
        return "it is False"
    return f"it returned {verdict!r:.80}; return True, False or a message"
