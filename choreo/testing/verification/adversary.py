"""The next moves of operators, foreign programs and the outside world, and the rest of their budget.

A budget is a tuple: how many of each limited move are left, whether the run has been started, the pauses that the
operator has not ended, and how many events of each type have come from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.core import facts, gates, ids
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.state import FAILED, KeyState, Run
from choreo.testing.verification.canonical import KEY
from choreo.testing.verification.moves import MOVES
from choreo.testing.verification.pool import Pool

_NAMES = tuple(MOVES)
_STARTED, _PAUSES = len(_NAMES), len(_NAMES) + 1
_OUTSIDE = len(_NAMES) + 2

Left = tuple[int, ...]


class Act(NamedTuple):
    """One move from outside. `due`: it will come, so that a state may wait for it."""

    label: str
    record: int
    left: Left
    due: bool = False


class Adversary:
    """The moves from outside of one flow."""

    def __init__(
        self,
        table: FlowTable,
        records: Pool[Envelope],
        budget: Mapping[str, int],
        data: Mapping[str, Sequence[bytes]],
        parent: str = "",
    ) -> None:
        """Take the budget; `data` gives the payloads to try for a type, `parent` the place of a child's run."""
        self._parent = parent
        self._table = table
        self._records = records
        self._data = data
        self._outside: tuple[str, ...] = tuple(sorted(table.outside))
        self.budget: Left = (*(budget.get(name, 0) for name in _NAMES), 0, 0, *(0 for _ in self._outside))

    def spent(self, left: Left, name: str) -> Left | None:
        """Return the budget after one move of this name; None if none is left."""
        at = _NAMES.index(name)
        return (*left[:at], left[at] - 1, *left[at + 1 :]) if left[at] else None

    def has(self, left: Left, name: str) -> bool:
        """Return whether a move of this name is left."""
        return bool(left[_NAMES.index(name)])

    def acts(self, state: KeyState, left: Left) -> Iterator[Act]:
        """Yield every move from outside."""
        if not left[_STARTED]:
            id_ = ids.start(self._table.flow.name, KEY)
            for label, record in self._written(self._table.flow.starts, id_, "starts"):
                yield Act(label, self._of_parent(record), _with(left, _STARTED, 1), due=True)
            return
        for run in state.runs:
            if not run.ended:
                yield from self._operated(run, left)
        yield from self._foreign(left)
        yield from self._from_outside(state, left)

    def _of_parent(self, record: int) -> int:
        """Return the start of a run, with the header of its parent if it has one."""
        start = self._records[record]
        return self._records.number(replace(start, run=start.id, parent=self._parent)) if self._parent else record

    def _operated(self, run: Run, left: Left) -> Iterator[Act]:
        cancelled = self.spent(left, "cancel")
        if cancelled:
            fact = self._fact(run, facts.CANCEL_REQUESTED, ids.of_run("cancel", run.id))
            yield Act("operator cancels the run", fact, cancelled)
        ended = self.spent(left, "terminate")
        if ended:
            fact = self._fact(run, facts.FLOW_TERMINATED, ids.of_run("terminated", run.id))
            yield Act("operator terminates the run", fact, ended)
        paused, n = self.spent(left, "pause"), run.pause_n + 1
        if paused and not run.paused_ms and not run.completing:
            fact = self._fact(run, facts.FLOW_PAUSED, ids.of_run("pause", run.id, n), n=n)
            yield Act("operator pauses the run", fact, _with(paused, _PAUSES, 1))
        if run.paused_ms and left[_PAUSES]:
            fact = self._fact(run, facts.FLOW_RESUMED, ids.of_run("pause", run.id, n), n=n)
            yield Act("operator resumes the run", fact, _with(left, _PAUSES, 0), due=True)
        operated = self.spent(left, "operator")
        for entry in run.ledger if operated else ():
            if entry.state == FAILED and operated:
                about = {"entry": entry.id, "step": entry.step, "round": entry.round}
                id_ = ids.of_round("undo-retry", entry.id, entry.round)
                fact = self._fact(run, facts.COMPENSATION_RETRY_REQUESTED, id_, **about)
                yield Act(f"operator retries the undo of {entry.step}", fact, operated)
                id_ = ids.of_round("undo-resolved", entry.id, entry.round)
                fact = self._fact(run, facts.COMPENSATION_RESOLVED, id_, **about)
                yield Act(f"operator resolves the undo of {entry.step}", fact, operated)

    def redriven(self, trigger: Envelope, step: str, left: Left) -> Act | None:
        """Return the redrive of a dead letter; None if that is not left."""
        redriven = self.spent(left, "dead-letter")
        if not redriven:
            return None
        fact = Envelope(
            id=ids.of_run("redriven", trigger.id), type=facts.REDRIVEN, key=KEY, flow=trigger.flow, run=trigger.run,
            step=step, causation=trigger.id, trigger=trigger.id, version=trigger.version, outcome=0,
        )  # fmt: skip
        return Act(f"operator redrives the dead letter of {step}", self._records.number(fact), redriven)

    def _foreign(self, left: Left) -> Iterator[Act]:
        again = self.spent(left, "second-start")
        if again:
            id_ = ids.start(self._table.flow.name, KEY, "again")
            for label, record in self._written(self._table.flow.starts, id_, "starts again"):
                yield Act(label, record, again)
        foreign = self.spent(left, "foreign")
        for type_ in sorted(self._table.successes) if foreign else ():
            if foreign and self._follows(type_):
                for label, record in self._written(type_, f"foreign {type_}", "a foreign program writes"):
                    yield Act(label, record, foreign)

    def _follows(self, type_: str) -> bool:
        """Return whether something happens because of this type."""
        table = self._table
        return type_ in table.triggers or type_ in table.gated or type_ in table.flow.ends

    def _from_outside(self, state: KeyState, left: Left) -> Iterator[Act]:
        for place, type_ in enumerate(self._outside):
            count = left[_OUTSIDE + place]
            most = 1 if all(w.name in self._table.waits_once for w in self._table.satisfies.get(type_, ())) else 2
            awaited = count < most and self._is_awaited(state, type_)
            early = None if awaited else self.spent(left, "early")
            if not awaited and not early:
                continue
            after = _with(early or left, _OUTSIDE + place, count + 1)
            when = "" if awaited else ", unawaited"
            for label, record in self._written(type_, f"outside {type_} {count}", f"outside{when}:"):
                yield Act(label, record, after)

    def _is_awaited(self, state: KeyState, type_: str) -> bool:
        waits = {wait.name for wait in self._table.satisfies.get(type_, ())}
        waits |= {wait.name for wait in self._table.moves.get(type_, ())}
        return any(_opens(run.gates, waits) for run in state.runs if not run.closed)

    def _written(self, type_: str, id_: str, label: str) -> Iterator[tuple[str, int]]:
        """Yield an event from outside with each payload that may matter."""
        for data in self._data.get(type_, (b"",)):
            event = Envelope(
                id=id_, type=type_, key=KEY, flow=self._table.flow.name, version=self._table.flow.version, data=data
            )
            said = f" {data.decode()}" if len(self._data.get(type_, ())) > 1 else ""
            yield f"{label} {type_}{said}", self._records.number(event)

    def _fact(self, run: Run, type_: str, id_: str, **fields: object) -> int:
        flow, version = self._table.flow.name, self._table.flow.version
        made = Envelope(id=id_, type=type_, key=KEY, flow=flow, run=run.id, version=version, **fields)  # type: ignore[arg-type]
        return self._records.number(made)


def _opens(found: gates.Gates, waits: set[str]) -> bool:
    return any(opening.wait in waits for opening in found.openings)


def _with(left: Left, at: int, value: int) -> Left:
    return (*left[:at], value, *left[at + 1 :])
