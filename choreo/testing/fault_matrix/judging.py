"""Judge a run of the fault matrix: the promises of `choreo simulate`, and those about the user's compensations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from choreo.app.tracking.views import Effect, detail_of
from choreo.core.declare.steps import Step
from choreo.core.state import FAILED, STUCK
from choreo.ports.read_model import InstanceView
from choreo.testing.fault_matrix.cells import Cell
from choreo.testing.fault_matrix.hosts import POISON_KEY
from choreo.testing.fault_matrix.table import BEFORE
from choreo.testing.simulation import promises
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.world import World

if TYPE_CHECKING:
    from choreo.testing.fault_matrix.playing import MatrixConductor


async def judged(conductor: MatrixConductor, hooks: Hooks, cell: Cell | None, expected: str) -> tuple[list[str], str]:
    """Return the sentences of every broken promise, and the ends of the runs."""
    rows = [row for row in await conductor.rows() if row.key != POISON_KEY]
    ends = ", ".join(row.status for row in sorted(rows, key=lambda row: (row.flow, row.key, row.run)))
    if conductor.was_stuck:
        ends = f"stuck, then {ends}"
    found = stuck(conductor.world, [row for row in rows if row.status == STUCK], cell)
    if expected and ends != expected:
        found.append(f"the fault must not be seen: the run ends {ends or 'nowhere'}, and without the fault {expected}")
    found += await promises.broken(conductor, hooks)
    return list(dict.fromkeys(found)), ends


def stuck(world: World, rows: Sequence[InstanceView], cell: Cell | None) -> list[str]:
    """Return a sentence about each failed compensation of these stuck runs, unless the flow declares it so."""
    return [sentence for row in rows for sentence in _of_row(world, row, cell)]


def _of_row(world: World, row: InstanceView, cell: Cell | None) -> Iterator[str]:
    for effect in detail_of(row).ledger:
        step = _step(world, row.flow, effect.step)
        if effect.state != FAILED or step is None or step.compensation is None:
            continue
        if _is_declared(step, effect) or _is_unreadable(step, cell):
            continue
        undo = step.compensation
        doubt = ", which is in doubt," if effect.in_doubt else ""
        yield (
            f"promise 4, every effect is undone: the run ends stuck, because the compensation of {effect.step} "
            f"failed: {effect.cause or row.cause}. Correct {place_of(undo.handler)}: it must undo the effect{doubt} "
            f"and return {' or '.join(undo.definition.emits)}"
            f"{', or None if there was nothing to undo' if effect.in_doubt else ''}."
        )


def _is_declared(step: Step, effect: Effect) -> bool:
    """Return whether the flow declares that this effect may end in doubt."""
    undo = step.definition.compensation
    return effect.in_doubt and undo is not None and not (undo.bars and undo.takes_none)


def _is_unreadable(step: Step, cell: Cell | None) -> bool:
    """Return whether the fault was that nobody can read this step's own outcome: only a person can undo it."""
    return cell is not None and (cell.fault, cell.point) == ("poison", BEFORE) and cell.step != step.name


def _step(world: World, flow: str, name: str) -> Step | None:
    for service in world.project.flows[flow].services:
        for step in service.steps.values():
            if step.name == name:
                return step
    return None


def place_of(handler: Any) -> str:
    """Return a handler's name with its file and line."""
    function = inspect.unwrap(handler)
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})" if code else name
