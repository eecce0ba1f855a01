"""`choreo verify`: explore every reachable state of a flow and look for one that breaks a promise."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from choreo.cli.failures import PROBLEM, UNDECIDED
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen_or_all, declared
from choreo.core.wording import counted
from choreo.testing.verification.moves import MOVES
from choreo.testing.verification.verify import LIMIT, Report
from choreo.testing.verification.verify import verify as verified

With = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="MOVES",
        help=f"Explore these moves, too: {', '.join(MOVES)}, or all; pause=2 lets one come twice in a history, "
        "crash=0 leaves one out.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Cut the exploration off after so many states; 0 for none.")]


def verify(flow: FlowArgument = "", *, with_: With = "", limit: Limit = LIMIT, output: Output = Format.TABLE) -> None:
    """Explore every reachable state of a flow, under every order of outcomes and faults; check the promises in each.

    No handler runs: it succeeds, declines, fails, comes late or dies, in every order. The rules that @flow.invariant
    declares are checked, too. Exit code 1 with the shortest way to a broken promise; 6 if the exploration was cut off
    before all states were seen. Without a name: every flow of the project.
    """
    flows = declared()
    reports = [verified(flows[name], moves=with_, limit=limit) for name in chosen_or_all(flows, flow)]
    if output is Format.JSON:
        document({"flows": [_fields(report) for report in reports]})
    else:
        for report in reports:
            _print(report)
    verdicts = {report.verdict for report in reports}
    if verdicts != {"holds"}:
        raise typer.Exit(PROBLEM if "broken" in verdicts else UNDECIDED)


def _fields(report: Report) -> dict[str, object]:
    return {**msgspec.to_builtins(report), "seconds": round(report.seconds, 3), "transitions_s": report.transitions_s}


def _print(report: Report) -> None:
    """Print the verdict of one flow, and the timeline of a broken promise."""
    if report.broken:
        write(plain(f"flow {report.flow}: {report.broken}"))
        rows = [(n, each.move, each.status, each.effects) for n, each in enumerate(report.timeline, 1)]
        table(("", "move", "run", "effects"), rows, styles=[""] * (len(rows) - 1) + ["red"])
    moves = ", ".join(name if count == 1 else f"{name}={count}" for name, count in report.moves.items())
    write(plain(f"flow {report.flow}: {_SENTENCES[report.verdict]}; {_counted(report)}"))
    if report.unexplored:
        write(plain(f"  not explored: the children of {', '.join(report.unexplored)}"))
    _print_ends(report)
    write(plain(f"  moves: {moves or 'none'}; invariants: {', '.join(report.invariants) or 'none of its own'}"))


def _print_ends(report: Report) -> None:
    """Print how runs end; of an end that a person must look at, the shortest way to it."""
    good = ", ".join(f"{end.text} ({end.states:,})" for end in report.ends if not end.is_stuck)
    write(plain(f"  ends: {good or 'none was seen'}"))
    for end in report.ends:
        if end.is_stuck:
            way = "; ".join(moment.move for moment in end.timeline)
            write(plain(f"  may end {end.text}: {counted(end.states, 'state')}; the shortest way: {way}"))


def _counted(report: Report) -> str:
    counts = f"{report.states:,} states, {report.transitions:,} transitions"
    return f"{counts} in {report.seconds:.1f} s ({report.transitions_s:,} transitions/s)"


_SENTENCES = {
    "holds": "every promise holds in every reachable state",
    "broken": "broken, the shortest way to it stands above",
    "unknown": "unknown, nothing broken was found before the exploration was cut off (--limit) or left parts out",
}
