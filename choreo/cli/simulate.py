"""`choreo simulate`: run the project's services in virtual time under seeded faults, and check the promises.

It opens no storage: log, inboxes and read model are modelled in this process.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from choreo import settings
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, remark, table, write
from choreo.cli.project import chosen
from choreo.core.errors import SettingsError
from choreo.core.wording import counted
from choreo.testing.simulation import kinds as fault_kinds
from choreo.testing.simulation.hooks import load_hooks
from choreo.testing.simulation.ownership import REAL_MONOTONIC
from choreo.testing.simulation.simulate import Outcome, Simulation, fired_in, seeds
from choreo.testing.simulation.world import Project
from choreo.wiring import definitions_of
from choreo.wiring.flows import load_flows

SEEDS = 100
"""Seeds where neither --seeds nor --minutes is given: each kind of fault has its turn three times."""
FAILING_MAX = 1
"""Failing seeds after which the search ends: one is shrunk and shown."""
_REPORT_EVERY = 50


class Failure(msgspec.Struct, frozen=True):
    """A seed that breaks a promise, and its shortest plan."""

    seed: int
    faults: list[str]
    actions: list[str]
    replay: str
    timeline: str


class Report(msgspec.Struct, frozen=True):
    """The answer of `choreo simulate`."""

    ok: bool
    flows: list[str]
    first_seed: int
    seeds: int
    runs: int
    virtual_s: float
    real_s: float
    fired: dict[str, int]
    """Faults that have met something, by enabled kind."""
    never_fired: list[str]
    failures: list[Failure]
    doubts: Mapping[str, int] = {}
    """Effects that stay in doubt by the declaration → how many runs end stuck for it; that breaks no promise."""
    digest: str = ""
    """Of the last seed: the hash of its log."""


Flows = Annotated[list[str] | None, typer.Argument(help="Flows to simulate; without them every flow of the project.")]


def simulate(
    flows: Flows = None,
    *,
    number: Annotated[int, typer.Option("--seeds", min=0, help=f"Seeds to run (default {SEEDS}).")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=-1, help="The first seed; alone, the only one.")] = -1,
    faults: Annotated[
        str, typer.Option("--faults", help="Kinds of faults, separated by commas; none, or -kind for all but it.")
    ] = "",
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="Run seeds for so long.")] = 0,
    keep: Annotated[str, typer.Option("--keep", help="Of one seed's plan only these actions, by number.")] = "",
    turn: Annotated[int, typer.Option("--turn", min=0, help="With --seed: the place that a failure shows.")] = 0,
    calm: Annotated[bool, typer.Option("--calm", help="Without latencies; processes take turns.")] = False,
    hooks: Annotated[Path | None, typer.Option("--hooks", help="File with the project's Hooks.")] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="List the kinds of faults, and stop.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Run the services under seeded faults in virtual time; exit with 1 where a promise is broken.

    A failing seed is shrunk and shown as a timeline, with the command that replays it. Every enabled kind of fault is
    counted; one that never fired fails the run, too, unless it was of one seed.
    """
    if list_faults:
        table(("kind", "fault"), [(name, kind.text) for name, kind in fault_kinds.KINDS.items()])
        return
    if keep and seed < 0:
        raise SettingsError("--keep needs a seed", where="--keep", remedy="Add --seed.")
    hide_killed_tasks()
    project = project_of_names(flows or [])
    enabled = fault_kinds.chosen(faults.split(","), project.definitions)
    simulation = Simulation(project, load_hooks(hooks, Path.cwd()), enabled)
    began_s = REAL_MONOTONIC()
    kept = [int(each) for each in keep.split(",") if each.strip().isdecimal()] if keep else None
    is_single = seed >= 0 and not number and not minutes
    if is_single:
        outcomes = [simulation.run(seed, turn, kept, is_calm=calm)]
    else:
        outcomes = _search(simulation, max(seed, 0), _until(number, minutes, began_s), began_s)
    failures = [_failure(outcome, simulation, project, faults, is_single) for outcome in outcomes if outcome.faults]
    report = _report(project, outcomes, failures, fired_in(outcomes, enabled), REAL_MONOTONIC() - began_s)
    if not (is_single or failures):
        report = msgspec.structs.replace(report, never_fired=[kind for kind in enabled if not report.fired[kind]])
        report = msgspec.structs.replace(report, ok=not report.never_fired)
    if output is Format.JSON:
        document(report)
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(PROBLEM)


def _report(
    project: Project, outcomes: Sequence[Outcome], failures: list[Failure], fired: dict[str, int], real_s: float
) -> Report:
    return Report(
        ok=not failures,
        flows=list(project.flows),
        first_seed=outcomes[0].seed,
        seeds=len(outcomes),
        runs=sum(outcome.runs for outcome in outcomes),
        virtual_s=round(sum(outcome.virtual_s for outcome in outcomes), 3),
        real_s=round(real_s, 3),
        fired=fired,
        never_fired=[],
        failures=failures,
        doubts=dict(Counter(text for outcome in outcomes for text in outcome.doubts)),
        digest=outcomes[-1].digest,
    )


def hide_killed_tasks() -> None:
    """Let Python not complain of tasks that end in the middle: their process was killed on purpose."""
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    shown = sys.unraisablehook

    def hook(error: Any) -> None:
        if not (isinstance(error.exc_value, RuntimeError) and "GeneratorExit" in str(error.exc_value)):
            shown(error)

    sys.unraisablehook = hook


def project_of_names(names: Sequence[str]) -> Project:
    """Return the chosen flows as a project, with their frozen versions, at the pace of their declarations."""
    config = settings.load(time_scale=1, tracebacks=False)
    every = load_flows(config.flows)
    flows = {name: every[name] for name in (chosen(every, each) for each in names or every)}
    return Project(flows, definitions_of(flows, config), config)


def _until(number: int, minutes: float, began_s: float) -> Callable[[int], bool]:
    """Return the function that says whether so many seeds are enough."""
    if minutes:
        return lambda count: count > 0 and REAL_MONOTONIC() - began_s >= minutes * 60
    return lambda count: count >= (number or SEEDS)


def _search(simulation: Simulation, first: int, is_over: Callable[[int], bool], began_s: float) -> list[Outcome]:
    """Return the outcomes of the seeds, up to the first failing one."""
    outcomes: list[Outcome] = []

    def show(_: Outcome) -> None:
        count = len(outcomes) + 1
        if count % _REPORT_EVERY == 0:
            remark(f"{count} seeds, {count / (REAL_MONOTONIC() - began_s):.1f} a second")

    for outcome in seeds(simulation, first, is_over, show=show):
        outcomes.append(outcome)
        if sum(bool(each.faults) for each in outcomes) >= FAILING_MAX:
            break
    return outcomes


def _failure(outcome: Outcome, simulation: Simulation, project: Project, faults: str, is_single: bool) -> Failure:  # noqa: FBT001 - private
    """Return a failing seed, shrunk unless it is being replayed."""
    shown = outcome if is_single else simulation.shrunk(outcome)
    words = ["choreo simulate", *project.flows, f"--seed {shown.seed}", f"--turn {shown.index}"]
    words += [f"--faults={faults}"] if faults else []
    words += [f"--keep {','.join(map(str, shown.kept))}", *(["--calm"] if shown.is_calm else [])]
    actions = [
        f"{number}: {action.kind} {action.target} at {action.at_ms} ms"
        for number, action in zip(shown.kept, shown.plan.actions, strict=False)
    ]
    return Failure(shown.seed, shown.faults, actions, " ".join(words), shown.timeline)


def _print(report: Report) -> None:
    rows = [(kind, str(count), _text(kind)) for kind, count in report.fired.items()]
    table(("fault", "fired", ""), rows, styles=["" if count else "red" for count in report.fired.values()])
    for failure in report.failures:
        write(plain(f"\nseed {failure.seed} breaks a promise:"))
        for fault in failure.faults:
            write(plain(f"  {fault}"))
        write(plain(f"its shortest plan: {'; '.join(failure.actions)}"))
        write("its timeline:")
        for line in failure.timeline.splitlines():
            write(plain(line))
        write(plain(f"replay it with: {failure.replay}\n"))
    for text, count in report.doubts.items():
        write(plain(f"by declaration, {counted(count, 'run')} ended stuck: {text}"))
    for kind in report.never_fired:
        write(plain(f"never fired: {kind} ({_text(kind)}). Run more seeds, or leave it out with --faults=-{kind}."))
    ratio = report.virtual_s / max(report.real_s, 0.001)
    write(
        plain(
            f"flow {', '.join(report.flows)}: {counted(report.seeds, 'seed')} from {report.first_seed} on, "
            f"{counted(report.runs, 'start')}, {counted(sum(report.fired.values()), 'fault')}, "
            f"{len(report.failures)} failing; {report.real_s:.1f} s, {ratio:,.0f} times as fast as real time"
        )
    )


def _text(kind: str) -> str:
    known = fault_kinds.KINDS.get(kind)
    return known.text if known else "a process that had lost its partitions published all the same"
