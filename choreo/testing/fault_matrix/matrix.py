"""The fault matrix of a project: every cell is played, with its verdict, its reason and its coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from choreo.testing.fault_matrix import routes as finding
from choreo.testing.fault_matrix.cells import Cell, cells_of, chosen
from choreo.testing.fault_matrix.playing import Play, Players, Route
from choreo.testing.fault_matrix.routes import Routes
from choreo.testing.fault_matrix.strikes import FOREVER
from choreo.testing.fault_matrix.table import AFTER, BEFORE, FAULTS
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.world import Project

ONCE, ALWAYS, THEN_DIES, DIES_TWICE = (
    "once",
    "every attempt",
    "once, then the process dies",
    "dies again at the takeover",
)
_REPEATED: Final = frozenset({"error", "timeout", "compensation-failure"})
"""Faults that strike every attempt, too."""


class Verdict(StrEnum):
    """The verdict on a cell."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_HIT = "not hit"
    IMPOSSIBLE = "not possible"


class Ended(msgspec.Struct, frozen=True):
    """One run of a cell: how often the fault struck, and how the runs ended."""

    way: str
    ends: str


class CellResult(msgspec.Struct, frozen=True):
    """The result of one cell."""

    step: str
    fault: str
    point: str
    verdict: Verdict
    meaning: str
    reason: str = ""
    """Why it could not be hit."""
    broken: tuple[str, ...] = ()
    """The broken promises."""
    declared: tuple[str, ...] = ()
    """Effects that stay in doubt by the declaration of the flow: the run ends stuck, and that breaks no promise."""
    route: str = ""
    """The run that the fault met."""
    played: tuple[Ended, ...] = ()
    timeline: str = ""

    @property
    def name(self) -> str:
        """Return `step:fault:point`."""
        return f"{self.step}:{self.fault}:{self.point}"


class Matrix:
    """The cells of a project."""

    def __init__(self, project: Project, hooks: Hooks) -> None:
        """Take checked flows and the project's hooks."""
        self._players = Players(project, hooks)
        self.cells: list[Cell] = cells_of(project.definitions)
        self.routes: Routes = Routes()
        self.runs: int = 0
        """Runs that were played."""

    def results(self, wanted: Sequence[str], *, show: Callable[[CellResult], None]) -> list[CellResult]:
        """Return the result of each cell that is named, of all where none is. Raises SettingsError."""
        cells = chosen(self.cells, wanted)
        self.routes = finding.find(self._players)
        self.runs += len(self.routes.tried)
        results = []
        for cell in cells:
            results.append(self._result(cell))
            show(results[-1])
        return results

    def broken_routes(self) -> list[tuple[Route, Play]]:
        """Return the routes on which a promise is broken without the fault of any cell."""
        return [(route, play) for route, play in self.routes.tried if play.faults]

    def _result(self, cell: Cell) -> CellResult:
        fault = FAULTS[cell.fault]
        empty = CellResult(cell.step, cell.fault, cell.point, Verdict.IMPOSSIBLE, cell.meaning, cell.impossible)
        if cell.impossible:
            return empty
        known = self.routes.found.get((cell.step, fault.undo))
        if known is None:
            which = f"the compensation of {cell.step}" if fault.undo else cell.step
            reason = (
                f"none of {len(self.routes.tried)} runs called {which}: make start events that lead to it in a hook, "
                "@hooks.makes in simulation.py"
            )
            return msgspec.structs.replace(empty, verdict=Verdict.NOT_HIT, reason=reason)
        route, usual = known
        plays = list(self._plays(cell, route, usual))
        broken = tuple(dict.fromkeys(fault for _, play in plays for fault in play.faults))
        verdict = Verdict.FAILED if broken else Verdict.PASSED
        reason = ""
        if not plays[0][1].hits:
            verdict, reason = Verdict.NOT_HIT, f"the step was called, and never came to this point ({route.text})"
        elif cell.fault == "late-success" and not plays[0][1].is_late and not broken:
            verdict, reason = Verdict.NOT_HIT, f"its outcome was not late: its run was not given up ({route.text})"
        shown = [play.timeline for _, play in plays if play.faults]
        return msgspec.structs.replace(
            empty,
            verdict=verdict,
            reason=reason,
            broken=broken,
            declared=tuple(dict.fromkeys(text for _, play in plays for text in play.declared)),
            route=route.text,
            played=tuple(Ended(way, play.ends) for way, play in plays),
            timeline=min(shown, key=len, default=""),
        )

    def _plays(self, cell: Cell, route: Route, usual: Play) -> Iterator[tuple[str, Play]]:
        """Play the fault once; in every attempt; and with a death of the process at the next passage of the point."""
        absorbed = cell.point in FAULTS[cell.fault].is_absorbed and not usual.faults
        expected = usual.ends if absorbed else ""
        once = self._play(route, cell, times=FOREVER if _is_lasting(cell) else 1, expected=expected)
        yield ALWAYS if _is_lasting(cell) else ONCE, once
        if cell.fault in _REPEATED and cell.point in (BEFORE, AFTER):
            yield ALWAYS, self._play(route, cell, times=FOREVER)
        if once.passages > once.hits or cell.fault == "kill":
            then = THEN_DIES if cell.fault != "kill" else DIES_TWICE
            play = self._play(route, cell, times=1, deaths=1, expected=expected)
            if play.deaths:
                yield then, play

    def _play(self, route: Route, cell: Cell, *, times: int, deaths: int = 0, expected: str = "") -> Play:
        self.runs += 1
        return self._players.play(route, cell, times=times, deaths=deaths, expected=expected)


def _is_lasting(cell: Cell) -> bool:
    """Return whether the fault makes sense only in every attempt."""
    return cell.fault == "late-gateway" and cell.point == BEFORE


def counts(results: Sequence[CellResult]) -> dict[Verdict, int]:
    """Return how many cells have each verdict."""
    counted = Counter(result.verdict for result in results)
    return {verdict: counted[verdict] for verdict in Verdict}
