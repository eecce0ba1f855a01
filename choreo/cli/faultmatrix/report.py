"""The report of the fault matrix, and the same as one HTML file: no script, no style sheet or font from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import msgspec

from choreo.core.wording import counted
from choreo.testing.fault_matrix.matrix import CellResult, Verdict
from choreo.testing.fault_matrix.table import POINTS

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0 2rem; }
th, td { border: 1px solid #c8c8c8; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.passed { background: #e2f4e4; } td.failed { background: #f9d7d5; font-weight: 600; }
td.not-hit { background: #fdf0c8; } td.not-possible { color: #5c5c5c; }
pre { overflow-x: auto; background: #f4f4f4; padding: .8rem; }
a { color: inherit; }
@media (prefers-color-scheme: dark) {
  body { color: #eaeaea; background: #161616; } th, td { border-color: #4a4a4a; } pre { background: #242424; }
  td.passed { background: #16351a; } td.failed { background: #571d1a; } td.not-hit { background: #4a3b08; }
  td.not-possible { color: #a0a0a0; }
}
"""
_MARKS = {Verdict.PASSED: "passed", Verdict.FAILED: "failed", Verdict.NOT_HIT: "not hit", Verdict.IMPOSSIBLE: "–"}


class BrokenRun(msgspec.Struct, frozen=True):
    """A run without any fault of a cell that breaks a promise."""

    route: str
    ends: str
    broken: list[str]
    timeline: str


class Report(msgspec.Struct, frozen=True):
    """The answer of `choreo faultmatrix`."""

    verdict: str
    """"holds"; "broken"; "unknown" where a cell could not be hit."""
    flows: list[str]
    cells: int
    counts: Mapping[str, int]
    """Cells by verdict."""
    coverage: float
    """Share of the possible cells that were hit."""
    runs: int
    real_s: float
    results: Sequence[CellResult]
    replay: Mapping[str, str]
    """Cell that failed → the command that plays it again."""
    broken_runs: Sequence[BrokenRun]
    """Runs that break a promise before any fault meets them."""


def page_of(report: Report) -> str:
    """Return the page."""
    return "\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterator[str]:
    flows = escape(", ".join(report.flows))
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Fault matrix of {flows}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>Fault matrix of {flows}</h1>"
    counts = report.counts
    hit = counts[Verdict.PASSED] + counts[Verdict.FAILED]
    possible = report.cells - counts[Verdict.IMPOSSIBLE]
    yield (
        f"<p><strong>Verdict: {escape(report.verdict)}.</strong> {hit} of {counted(possible, 'cell')} hit "
        f"({report.coverage:.0%}): {counts[Verdict.PASSED]} passed, {counts[Verdict.FAILED]} failed; "
        f"{counts[Verdict.NOT_HIT]} not hit; {counts[Verdict.IMPOSSIBLE]} more are not possible. "
        f"{counted(report.runs, 'run')}.</p>"
    )
    for run in report.broken_runs:
        yield f"<h2>Without any fault: {escape(run.route)}</h2>"
        yield from _broken(run.broken, run.timeline)
    for step in dict.fromkeys(result.step for result in report.results):
        yield from _step(step, [result for result in report.results if result.step == step])
    for result in report.results:
        if result.verdict is Verdict.FAILED:
            yield f'<h2 id="{escape(result.name)}">{escape(result.name)}</h2><p>{escape(result.meaning)}.</p>'
            yield from _broken(result.broken, result.timeline)
            yield f"<p>Play it again:</p><pre>{escape(report.replay[result.name])}</pre>"
    yield "</body>\n</html>"


def _step(step: str, results: list[CellResult]) -> Iterator[str]:
    yield f'<h2>{escape(step)}</h2>\n<table>\n<tr><th scope="col">fault</th>'
    yield "".join(f'<th scope="col">{point}</th>' for point in POINTS) + "</tr>"
    for fault in dict.fromkeys(result.fault for result in results):
        cells = {result.point: result for result in results if result.fault == fault}
        yield f'<tr><th scope="row">{fault}</th>'
        yield "".join(_cell(cells[point]) if point in cells else "<td></td>" for point in POINTS) + "</tr>"
    yield "</table>"


def _cell(result: CellResult) -> str:
    mark = _MARKS[result.verdict]
    if result.verdict is Verdict.FAILED:
        mark = f'<a href="#{escape(result.name)}">{mark}</a>'
    ways = "; ".join(f"{each.way}: {each.ends}" for each in result.played)
    text = result.reason or ways
    name = result.verdict.value.replace(" ", "-")
    return f'<td class="{name}" title="{escape(result.meaning)}">{mark}<br><small>{escape(text)}</small></td>'


def _broken(broken: tuple[str, ...] | list[str], timeline: str) -> Iterator[str]:
    yield "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in broken) + "</ul>"
    yield f"<pre>{escape(timeline)}</pre>"
