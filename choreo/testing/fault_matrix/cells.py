"""The cells of a fault matrix: every step × fault × point, and those that cannot be hit by the declaration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.errors import SettingsError
from choreo.core.flow_table import FlowTable
from choreo.core.wording import did_you_mean
from choreo.testing.fault_matrix.table import FAULTS, POINTS

ANY = "*"


class Cell(msgspec.Struct, frozen=True):
    """One cell: a fault meets a step at a point of an attempt."""

    step: str
    fault: str
    point: str
    impossible: str = ""
    """Why the declaration rules it out; "" where it can be hit."""

    @property
    def name(self) -> str:
        """Return `step:fault:point`, as the command takes it."""
        return f"{self.step}:{self.fault}:{self.point}"

    @property
    def meaning(self) -> str:
        """Return a sentence part about the fault at this point."""
        fault = FAULTS[self.fault]
        return fault.at.get(self.point, fault.text)


def cells_of(definitions: Mapping[str, FlowDefinition]) -> list[Cell]:
    """Return every cell of the steps of these flows."""
    reactions = {step for flow in definitions.values() for step in FlowTable(flow).reactions}
    steps = handled(definitions.values())
    return [
        Cell(step.name, fault, point, _impossible(step, fault, point, is_reaction=step.name in reactions))
        for step in steps
        for fault in FAULTS
        for point in POINTS
    ]


def handled(flows: Iterable[FlowDefinition]) -> list[StepDefinition]:
    """Return the steps of these flows, each once."""
    return list({step.name: step for flow in flows for step in flow.steps}.values())


def _impossible(step: StepDefinition, fault: str, point: str, *, is_reaction: bool) -> str:
    known = FAULTS[fault]
    if fault == "late-success" and is_reaction:
        return f"{step.name} reacts to a failure: the run does not wait for it, so it is never late"
    return known.lacks(step) or ("" if point in known.at else known.else_)


def chosen(cells: Sequence[Cell], wanted: Iterable[str]) -> list[Cell]:
    """Return the cells that are named, all where none is. Raises SettingsError.

    A name is `step:fault:point`; a part that is left out, or `*`, stands for each.
    """
    patterns = [list(_parts(cells, name)) for name in wanted]
    if not patterns:
        return list(cells)
    return [cell for cell in cells if any(_fits(cell, pattern) for pattern in patterns)]


def _parts(cells: Sequence[Cell], name: str) -> Iterator[str]:
    parts = name.split(":")
    known = (list(dict.fromkeys(cell.step for cell in cells)), list(FAULTS), list(POINTS))
    if len(parts) > len(known):
        raise SettingsError(
            f"{name!r} names no cell", where="--cell", remedy="Write step:fault:point, such as a.b:kill:after-publish."
        )
    for part, names, kind in zip(parts, known, ("step", "fault", "point"), strict=False):
        if part not in (*names, ANY, ""):
            raise SettingsError(
                f"there is no {kind} {part!r}",
                where="--cell",
                remedy=f"{did_you_mean(part, names)}Known here: {', '.join(names)}.",
            )
        yield part or ANY


def _fits(cell: Cell, pattern: Sequence[str]) -> bool:
    return all(part in (ANY, own) for part, own in zip(pattern, (cell.step, cell.fault, cell.point), strict=False))
