"""Judge a run of the fault matrix: the promises of `choreo simulate`, and those about the user's compensations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from choreo.ports.read_model import InstanceView
from choreo.testing.fault_matrix.cells import Cell
from choreo.testing.fault_matrix.hosts import POISON_KEY
from choreo.testing.fault_matrix.table import BEFORE
from choreo.testing.simulation import promises
from choreo.testing.simulation.compensations import Failed, failed_of
from choreo.testing.simulation.conductor import Conductor
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.world import World


class Judgement(NamedTuple):
    """The sentences about one run."""

    faults: tuple[str, ...]
    ends: str
    declared: tuple[str, ...] = ()
    """Effects that stay in doubt by the declaration of the flow."""


async def judged(conductor: Conductor, hooks: Hooks, cell: Cell | None, expected: str, *, was_stuck: bool) -> Judgement:
    """Return the broken promises, and the ends of the runs; `was_stuck`: a run was, until somebody resolved it."""
    rows = [row for row in await conductor.rows() if row.key != POISON_KEY]
    ends = ", ".join(row.status for row in sorted(rows, key=lambda row: (row.flow, row.key, row.run)))
    if was_stuck:
        ends = f"stuck, then {ends}"
    found = stuck(conductor.world, rows, cell)
    if expected and ends != expected:
        found.append(f"the fault must not be seen: the run ends {ends or 'nowhere'}, and without the fault {expected}")
    found += await promises.broken(conductor, hooks)
    return Judgement(tuple(dict.fromkeys(found)), ends, tuple(declared(conductor.world, rows)))


def stuck(world: World, rows: Sequence[InstanceView], cell: Cell | None) -> list[str]:
    """Return a sentence about each failed compensation of these runs, unless the flow or the fault has caused it."""
    return [each.text for each in _failed(world, rows) if not (each.is_declared or _is_unreadable(each.step, cell))]


def declared(world: World, rows: Sequence[InstanceView]) -> list[str]:
    """Return a sentence about each effect that stays in doubt by the flow's declaration."""
    return [each.text for each in _failed(world, rows) if each.is_declared]


def _failed(world: World, rows: Sequence[InstanceView]) -> Iterator[Failed]:
    for name, flow in world.project.flows.items():
        yield from failed_of(flow, [row for row in rows if row.flow == name])


def _is_unreadable(step: str, cell: Cell | None) -> bool:
    """Return whether the fault was that nobody can read this step's own outcome: only a person can undo it."""
    return cell is not None and (cell.fault, cell.point) == ("poison", BEFORE) and cell.step != step
