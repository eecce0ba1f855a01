"""The independent auditor: compares the log with the gateways' books, and reports broken promises.

Promises are those of the design's list: 1 nothing lost, 2 nothing twice, 3 every run ends, 4 undone once and newest
first, 5 timers, 7 order per key and step, 8 poison. (6, the rebuild, needs choreo itself: the test does it.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.audit import books, joins, timers
from tests.audit.ledger import SETTLED, Ledger
from tests.audit.order import ORDER
from tests.audit.reading import Evidence, Fact, read
from tests.audit.shape import ENDS, GENERAL_FAILURES, Shape, Told


@dataclass
class Report:
    """The auditor's findings."""

    violations: list[str]
    """Sentences; empty when every promise was kept."""
    counts: dict[str, int]
    outcomes: dict[str, str] = field(default_factory=dict)
    """Run → completed, compensated, terminated or open."""


def audit(database: Path, folder: Path, told: Told) -> Report:
    """Check the log in `database` and the books in `folder`, when all is quiet."""
    return judge(read(database), folder, told)


def judge(evidence: Evidence, folder: Path, told: Told) -> Report:
    """Check the records of the order flow, from any backend, and the books in `folder`."""
    report = judge_log(evidence, ORDER, told)
    keys = {run: facts[0].key for run, facts in by_run(evidence.log, ORDER).items()}
    completed = Counter(keys[run] for run, outcome in report.outcomes.items() if outcome == "completed")
    by_books = books.violations(folder, completed, Counter(keys.values()))
    report.violations += [f"promise 2: {breach}" for breach in by_books]
    report.violations += [f"promise 2: {breach}" for breach in _reruns(evidence.attempts, keys, folder, told)]
    return report


def judge_log(evidence: Evidence, shape: Shape, told: Told) -> Report:
    """Check the records of one flow, from any backend, against its declaration."""
    log, dead, statuses = evidence.log, evidence.dead_letters, evidence.shown
    runs = by_run(log, shape)
    outcomes = {run: outcome(told_of) for run, told_of in runs.items()}
    keys = {run: told_of[0].key for run, told_of in runs.items()}
    now_ms = max((fact.stamp_ms for fact in log), default=0)
    found = [*_acknowledged(log, runs, statuses, shape, told), *_poison(log, dead, told), *_order(log, shape)]
    found += [f"promise 5: {breach}" for breach in timers.early(log)]
    for run, told_of in runs.items():
        name = f"{shape.name} {keys[run]}, run {run}"
        found += [f"promise 2: {name}: {breach}" for breach in _twice(told_of, shape)]
        found += [f"promise 2: {name}: {breach}" for breach in joins.violations(told_of, shape)]
        found += [
            f"promise 3: {name}: {breach}" for breach in _ended(told_of, shape, outcomes[run], statuses.get(run, ""))
        ]
        found += [f"promise 4: {name}: {breach}" for breach in _undone(told_of, shape, outcomes[run])]
        found += [
            f"promise 5: {name}: {breach}" for breach in timers.violations(told_of, shape, told.durations, now_ms)
        ]
    return Report(found, _counts(log, dead, outcomes), outcomes)


def by_run(log: Sequence[Fact], shape: Shape) -> dict[str, list[Fact]]:
    """Return each run's facts in order, without duplicates; a fact without a run is of the key's oldest open one.

    A duplicate of such a fact is of the same run, also after the end of that run.
    A failure that is no longer certain is no duplicate: its step ran again after its inbox was lost.
    """
    runs: dict[str, list[Fact]] = {}
    open_runs: dict[str, list[str]] = {}
    seen: dict[tuple[str, str, str], bool] = {}
    unnamed: dict[tuple[str, str, str], str] = {}
    for fact in log:
        run = fact.id if fact.type == shape.start else fact.run
        if not run:
            oldest = next(iter(open_runs.get(fact.key, ())), "")
            run = unnamed.setdefault((fact.key, fact.id, fact.type), oldest) or oldest
        unknown = not fact.key or (run not in runs and fact.type != shape.start)
        before = seen.get((run, fact.id, fact.type))
        repeated = before is not None and (fact.certain or not before)
        if unknown or repeated or (fact.is_foreign and _is_orphan(fact, shape, runs.get(run, ()))):
            continue
        seen[run, fact.id, fact.type] = fact.certain
        runs.setdefault(run, []).append(fact)
        if fact.type == shape.start:
            open_runs.setdefault(fact.key, []).append(run)
        if fact.type in ENDS and run in open_runs[fact.key]:
            open_runs[fact.key].remove(run)
    return runs


def _is_orphan(fact: Fact, shape: Shape, run: Sequence[Fact]) -> bool:
    """Return whether it repeats an outcome of a step: nobody waits for it, and it changes nothing."""
    return fact.type in (*shape.successes, *shape.failures) and any(before.type == fact.type for before in run)


def _acknowledged(
    log: Sequence[Fact], runs: Mapping[str, Sequence[Fact]], statuses: Mapping[str, str], shape: Shape, told: Told
) -> Iterator[str]:
    for start, key in told.acknowledged.items():
        if start not in runs:
            yield f"promise 1: {shape.name} {key}: its start {start} was acknowledged and is not in the log"
        elif start not in statuses:
            yield f"promise 1: {shape.name} {key}: its start {start} is in the log and has no run"
    for fact in log:
        if fact.run and fact.run not in runs and fact.type != shape.start:
            yield f"promise 1: {fact.where} belongs to run {fact.run}, whose start is not in the log"


def _twice(run: Sequence[Fact], shape: Shape) -> Iterator[str]:
    """Yield each visible event that a run has under two ids; only events from outside may repeat."""
    ids = {(fact.id, fact.type) for fact in run if fact.type not in shape.outside}
    for type_, count in Counter(type_ for _, type_ in ids).items():
        once = not type_.startswith("choreo.") or type_ in ("choreo.CompensationStarted", "choreo.FlowCompleted")
        if once and count > 1:
            yield f"{type_} happened {count} times"


def outcome(run: Sequence[Fact]) -> str:
    """Return the end of the run; a second one counts only where something was to be undone after the first."""
    outcome = ""
    for fact in run:
        if fact.type == "choreo.CompensationRequested":
            outcome = ""
        elif fact.type in ENDS:
            outcome = outcome or ENDS[fact.type]
    ends = [ENDS[fact.type] for fact in run if fact.type in ENDS]
    return outcome or (ends[-1] if ends else "open")


def _ended(run: Sequence[Fact], shape: Shape, outcome: str, status: str) -> Iterator[str]:
    types = {fact.type for fact in run}
    if outcome not in ("completed", "compensated"):
        yield f"it is {outcome}; the last that was read of it is {run[-1].where}"
    if status != outcome:
        yield f"people are shown {status or 'nothing'}, by the log it is {outcome}"
    if outcome == "completed" and not types.intersection(shape.completes):
        yield f"it completed without {' or '.join(shape.completes)}"
    if len(types.intersection(shape.completes)) > 1:
        yield f"it has several outcomes: {', '.join(sorted(types.intersection(shape.completes)))}"
    turned = types & {"choreo.CompensationStarted", "choreo.FlowCompensated"}
    if "choreo.FlowCompleted" in types and turned and "choreo.ParentCompensationRequested" not in types:
        yield "it completed and was turned as well"
    if outcome == "compensated" and "choreo.CompensationStarted" not in types:
        yield "it was compensated without a turn"


def _undone(run: Sequence[Fact], shape: Shape, outcome: str) -> Iterator[str]:
    ledger = Ledger(run, shape)
    yield from ledger.violations()
    if outcome == "compensated":
        end = max(fact.offset for fact in run if fact.type == "choreo.FlowCompensated")
        for step, entry in ledger.entries.items():
            if entry.state not in SETTLED:
                doubt = "" if entry.certain else ", which is in doubt,"
                yield f"compensated, but the effect of {step}{doubt} is {entry.state}"
        if ledger.settled_at > end:
            yield "compensated, but something was undone after that"
    if outcome == "completed":
        for step, entry in ledger.entries.items():
            if entry.state != "open" or not entry.certain:
                yield f"completed, but the effect of {step} is {'certain and ' * entry.certain}{entry.state}"


def _order(log: Sequence[Fact], shape: Shape) -> Iterator[str]:
    """Check that outcomes of one step for one key stand in the order of their triggers."""
    first: dict[str, int] = {}
    newest: dict[tuple[str, str], tuple[int, Fact]] = {}
    answered: set[tuple[str, str]] = set()
    for fact in log:
        first.setdefault(fact.id, fact.offset)
        step = shape.successes.get(fact.type) or shape.failures.get(fact.type)
        if fact.type in GENERAL_FAILURES:
            step = fact.step
        if not step or fact.is_foreign or (step, fact.causation) in answered:
            continue
        answered.add((step, fact.causation))
        trigger = first.get(fact.causation, -1)
        if trigger < 0:
            yield f"promise 7: {shape.name} {fact.key}: {fact.where} has no trigger before it"
            continue
        before, other = newest.get((fact.key, step), (-1, fact))
        if trigger < before:
            which = f"{shape.name} {fact.key}: {fact.where}"
            yield f"promise 7: {which} answers an older trigger than {other.where} before it"
        newest[fact.key, step] = max(before, trigger), fact


def _poison(log: Sequence[Fact], dead: Sequence[tuple[int, int, str, str]], told: Told) -> Iterator[str]:
    """Set aside is what was poisoned, and nothing else; events for a compensating run are skipped unread."""
    skipped = {fact.causation for fact in log if fact.type == "choreo.StepSkipped"}
    unread = {(fact.partition, fact.offset) for fact in log if fact.id and fact.id in skipped}
    for partition, offset, service, cause in dead:
        if (partition, offset) not in told.poisoned:
            yield f"promise 8: {service} set {partition}/{offset} aside, which is sound: {cause}"
    for partition, offset in sorted(told.poisoned - {place[:2] for place in dead} - unread):
        yield f"promise 8: the poisoned record {partition}/{offset} is no dead letter"


def _reruns(
    begun: Sequence[tuple[str, str, str, int]], keys: Mapping[str, str], folder: Path, told: Told
) -> Iterator[str]:
    """Check that a handler ran twice only if its process died before its outcome was recorded."""
    allowed: Counter[tuple[str, str]] = Counter()
    for run, trigger, step, count in begun:
        key = keys.get(run, "")
        allowed[key, step.partition(".")[0]] += count
        if count > 1 and key in told.plain and (trigger, step) not in told.interrupted:
            yield f"order {key}: {step} began {count} times, and no crash interrupted it"
    services = {"reserve": "inventory", "charge": "payment", "book": "shipping"}
    for key, operation, count in books.calls(folder):
        most = allowed[key, services[operation]]
        if key in told.plain and most and count > most + told.uncounted:
            yield f"order {key}: {operation} was called {count} times, {most} attempts were begun"


def _counts(log: Sequence[Fact], dead: Sequence[object], outcomes: Mapping[str, str]) -> dict[str, int]:
    types = Counter(fact.type for fact in log)
    duplicates = len(log) - len({(fact.run, fact.id, fact.type) for fact in log})
    return {
        "records": len(log),
        "twins": duplicates,
        "runs": len(outcomes),
        "letters": len(dead),
        **Counter(outcomes.values()),
        "undo requests": types["choreo.CompensationRequested"],
        "timer facts": sum(1 for fact in log if fact.due_ms),
    }
