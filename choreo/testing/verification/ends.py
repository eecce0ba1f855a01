"""The ends that a flow has: how its runs end, why an end is no good one, and the shortest way to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from choreo.core.definition import StepDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.ledger import IN_DOUBT
from choreo.core.state import COMPENSATED, FAILED, STUCK, LedgerEntry, Run


def ends_of(table: FlowTable, runs: Sequence[Run]) -> list[str]:
    """Return how these runs of the key end, in words; one with several reasons is an end of several kinds."""
    found = [
        [f"{run.status}, because {reason}" for reason in _reasons(table, run)] or [str(run.status)] for run in runs
    ]
    if len(found) == 1:
        return list(dict.fromkeys(found[0]))
    return ["; ".join(kinds[0] for kinds in found)]


def _reasons(table: FlowTable, run: Run) -> Iterator[str]:
    if run.status == STUCK:
        yield from (_stuck(table, entry) for entry in run.ledger if entry.state == FAILED)
    if run.status == COMPENSATED:
        for name in sorted(run.taken):
            step = table.steps.get(name)
            if step is not None and step.effect and not step.compensation and name not in table.reactions:
                yield f"{name} has no compensation and its effect stays"


def _stuck(table: FlowTable, entry: LedgerEntry) -> str:
    step = table.steps.get(entry.step)
    if entry.cause == IN_DOUBT and step is not None:
        return f"the effect of {entry.step} stays in doubt: its compensation {_lack(step)}"
    return f"the compensation of {entry.step} fails"


def _lack(step: StepDefinition) -> str:
    undo = step.compensation
    if undo is None:
        return "is not there"
    return "cannot take None" if not undo.takes_none else "cannot bar a key (bars=False)"
