"""`choreo faultmatrix`: let every fault meet every step at every point of an attempt, and check the promises.

It opens no storage: log, inboxes and read model are modelled in this process, and time is virtual.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from choreo.cli.failures import PROBLEM, UNDECIDED
from choreo.cli.faultmatrix.report import BrokenRun, Report, page_of
from choreo.cli.output import Format, Output, document, plain, remark, table, write
from choreo.cli.simulate import hide_killed_tasks, project_of_names
from choreo.core.errors import StorageError
from choreo.core.wording import counted
from choreo.testing.fault_matrix.matrix import CellResult, Matrix, Verdict, counts
from choreo.testing.fault_matrix.table import FAULTS, POINTS
from choreo.testing.simulation.hooks import load_hooks
from choreo.testing.simulation.ownership import REAL_MONOTONIC

_REPORT_EVERY = 50
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b")
"""Ids of runs and events: they tell two sentences apart that are about the same mistake."""
_MARKS = {Verdict.PASSED: "passed", Verdict.FAILED: "FAILED", Verdict.NOT_HIT: "not hit", Verdict.IMPOSSIBLE: "-"}


Flows = Annotated[list[str] | None, typer.Argument(help="Flows of the matrix; without them every flow of the project.")]
Cells = Annotated[
    list[str] | None,
    typer.Option("--cell", metavar="STEP:FAULT:POINT", help="Only these cells; a part may be left out, or *."),
]


def faultmatrix(
    flows: Flows = None,
    *,
    cell: Cells = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the matrix to this file, too.")] = None,
    hooks: Annotated[Path | None, typer.Option("--hooks", help="File with the project's Hooks.")] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="List faults and points, and stop.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Let every fault meet every step at every point of an attempt, and check the promises after each.

    Each cell runs the project's own services with the real hosts in virtual time. A failing cell is shown with the
    broken promise, its timeline, and the command that plays it again. Exit code 1 with a failing cell; 6 where none
    fails, and one could not be hit.
    """
    if list_faults:
        _list_faults()
        return
    hide_killed_tasks()
    began_s = REAL_MONOTONIC()
    project = project_of_names(flows or [])
    matrix = Matrix(project, load_hooks(hooks, Path.cwd()))
    done: list[CellResult] = []

    def show(result: CellResult) -> None:
        done.append(result)
        if len(done) % _REPORT_EVERY == 0:
            remark(f"{len(done)} cells, {matrix.runs} runs in {REAL_MONOTONIC() - began_s:.0f} s")

    results = matrix.results(cell or (), show=show)
    report = _report(matrix, list(project.flows), results, REAL_MONOTONIC() - began_s)
    if html is not None:
        _write_page(html, report)
    if output is Format.JSON:
        document(report)
    else:
        _print(report)
    if report.verdict != "holds":
        raise typer.Exit(PROBLEM if report.verdict == "broken" else UNDECIDED)


def _report(matrix: Matrix, flows: list[str], results: Sequence[CellResult], real_s: float) -> Report:
    counted_ = counts(results)
    broken_runs = [
        BrokenRun(route.text, play.ends, list(play.faults), play.timeline) for route, play in matrix.broken_routes()
    ]
    possible = len(results) - counted_[Verdict.IMPOSSIBLE]
    hit = counted_[Verdict.PASSED] + counted_[Verdict.FAILED]
    if counted_[Verdict.FAILED] or broken_runs:
        verdict = "broken"
    else:
        verdict = "unknown" if counted_[Verdict.NOT_HIT] or not hit else "holds"
    return Report(
        verdict=verdict,
        flows=flows,
        cells=len(results),
        counts={verdict.value: count for verdict, count in counted_.items()},
        coverage=round(hit / possible, 4) if possible else 0.0,
        runs=matrix.runs,
        real_s=round(real_s, 3),
        results=results,
        replay={
            result.name: f"choreo faultmatrix {' '.join(flows)} --cell {result.name}"
            for result in results
            if result.verdict is Verdict.FAILED
        },
        broken_runs=broken_runs,
    )


def _write_page(file: Path, report: Report) -> None:
    try:
        file.write_text(page_of(report), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(file), remedy="Name a file in a folder that is there."
        ) from error


def _list_faults() -> None:
    table(
        ("fault", "point", "meaning"),
        [
            (name, point, fault.at.get(point, f"not possible: {fault.else_}"))
            for name, fault in FAULTS.items()
            for point in POINTS
        ],
    )


def _print(report: Report) -> None:
    marks: dict[tuple[str, str], dict[str, Verdict]] = {}
    for result in report.results:
        marks.setdefault((result.step, result.fault), {})[result.point] = result.verdict
    rows, styles = [], []
    for (step, fault), verdicts in marks.items():
        rows.append((step, fault, *(_MARKS[verdicts[point]] if point in verdicts else "" for point in POINTS)))
        found = set(verdicts.values())
        styles.append("red" if Verdict.FAILED in found else "yellow" if Verdict.NOT_HIT in found else "")
    table(("step", "fault", *POINTS), rows, styles=styles)
    for group in _groups(report):
        _print_group(group, report)
    for text in dict.fromkeys(text for result in report.results for text in result.declared):
        names = [result.name for result in report.results if text in result.declared]
        write(plain(f"by declaration, in {counted(len(names), 'cell')} such as {names[0]}: {text}"))
    _print_reasons(report, Verdict.NOT_HIT)
    _print_reasons(report, Verdict.IMPOSSIBLE)
    hit = report.counts[Verdict.PASSED] + report.counts[Verdict.FAILED]
    possible = report.cells - report.counts[Verdict.IMPOSSIBLE]
    write("")
    write(
        plain(
            f"flow {', '.join(report.flows)}: {_SENTENCES[report.verdict]}; {hit} of {counted(possible, 'cell')} hit "
            f"({report.coverage:.0%}), {report.counts[Verdict.FAILED]} failing, {report.counts[Verdict.NOT_HIT]} not "
            f"hit; {report.counts[Verdict.IMPOSSIBLE]} more are not possible; {counted(report.runs, 'run')} in "
            f"{report.real_s:.1f} s"
        )
    )


_SENTENCES = {
    "holds": "every promise holds in every cell",
    "broken": "broken, the failing cells stand above",
    "unknown": "unknown, a cell was not hit",
}


class _Failure(NamedTuple):
    """A cell, or a run without its fault, that breaks a promise."""

    title: str
    cell: str
    broken: Sequence[str]
    timeline: str


def _groups(report: Report) -> list[list[_Failure]]:
    """Return failures by their broken promise, so that one mistake is shown once; of each the shortest first."""
    failures = [
        _Failure(f"without any fault ({run.route}; it ends {run.ends})", "", run.broken, run.timeline)
        for run in report.broken_runs
    ]
    for result in report.results:
        if result.verdict is Verdict.FAILED:
            ways = "; ".join(f"{each.way}: {each.ends}" for each in result.played)
            failures.append(
                _Failure(f"{result.name}: {result.meaning} ({ways})", result.name, result.broken, result.timeline)
            )
    groups: dict[str, list[_Failure]] = {}
    for failure in failures:
        groups.setdefault(_ID.sub("", failure.broken[0]), []).append(failure)
    return [sorted(group, key=lambda each: len(each.timeline)) for group in groups.values()]


def _print_group(group: Sequence[_Failure], report: Report) -> None:
    shortest = group[0]
    write("")
    for each in shortest.broken:
        write(plain(each))
    for failure in group:
        write(plain(f"  broken by {failure.title}"))
    write(plain(f"the shortest timeline, {shortest.cell or 'without any fault'}:"))
    for line in shortest.timeline.splitlines():
        write(plain(line))
    cell = next((failure.cell for failure in group if failure.cell), "")
    if cell:
        write(plain(f"play it again with: {report.replay[cell]}"))


def _print_reasons(report: Report, verdict: Verdict) -> None:
    """Print why cells were not hit, one line a reason."""
    reasons: dict[str, list[str]] = {}
    for result in report.results:
        if result.verdict is verdict:
            reasons.setdefault(result.reason, []).append(result.name)
    for reason, names in reasons.items():
        shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        write(plain(f"{verdict.value}: {shown}: {reason}"))
