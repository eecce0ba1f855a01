"""The promises that a log shows when it is folded once more, record by record: order of undos, early timers, runs.

Folds with the tracker's own core; each check compares its answer with something that the fold does not decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from choreo.app.tracking.fold import FieldsOf, PartitionFold
from choreo.core import facts
from choreo.core.admission import early_ms
from choreo.core.crossing import ORDERS, crossings
from choreo.core.declare.invariants import name_of
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.run_view import Invariant, broken, view_of
from choreo.core.state import OPEN, Run
from choreo.ports.dead_letters import DeadLetter

_REPEATS_MAX = 20
"""A timer fact is repeated by each new owner of its partition, and once for each time that it was too early."""
_SET_ASIDE = "set aside: "
"""How the reason of a failure begins whose record is a dead letter."""


class _Folded(NamedTuple):
    """One record, and the runs of its key before and after it."""

    record: Record
    before: Sequence[Run]
    after: Sequence[Run]
    decisions: Sequence[Envelope]


def of_partition(
    table: FlowTable,
    partitions: Sequence[Sequence[Record]],
    number: int,
    fields_of: FieldsOf,
    invariants: Sequence[Invariant],
) -> Iterator[str]:
    """Yield the broken promises of one partition's records; `invariants` are the flow's own."""
    runs_of: dict[tuple[str, str, str], str] = {}
    told: set[tuple[str, str]] = set()
    for folded in _folded(table, partitions, number, fields_of):
        place = f"{table.flow.name} {folded.record.event.key} at {number}/{folded.record.offset}"
        yield from (f"promise 4: {place}: {fault}" for fault in _order_of_undos(folded))
        if early_ms(folded.record) and list(folded.before) != list(folded.after):
            yield f"promise 5: {place}: {folded.record.event.type} counts before it is due"
        yield from (f"hosts and fold disagree: {place}: {fault}" for fault in _runs(folded, runs_of))
        yield from (f"invariant {fault}" for fault in _invariants(table, invariants, folded, place, told))


def _folded(
    table: FlowTable, partitions: Sequence[Sequence[Record]], number: int, fields_of: FieldsOf
) -> Iterator[_Folded]:
    fold = PartitionFold(table, number, len(partitions), fields_of=fields_of)
    for record in partitions[number]:
        key = record.event.key
        fold.put({}, fold.missing([record]))
        before = fold.cache[key].state.runs if key in fold.cache else ()
        batch = fold.fold([record], 0)
        yield _Folded(record, before, fold.cache[key].state.runs if key in fold.cache else (), batch.outputs)


def _order_of_undos(folded: _Folded) -> Iterator[str]:
    """Yield the requests that were not made for the newest entry then open."""
    asked = [decision for decision in folded.decisions if decision.type == facts.COMPENSATION_REQUESTED]
    for request in asked:
        run = next((run for run in folded.after if run.id == request.run), None)
        entries = {entry.id: entry for entry in run.ledger} if run else {}
        entry = entries.get(request.entry)
        newer = [each.step for each in entries.values() if entry and each.state == OPEN and each.opened > entry.opened]
        if newer:
            yield f"the undo of {request.step} was requested before that of {', '.join(newer)}, which is newer"
    if len({request.run for request in asked}) < len(asked):
        yield f"the undos of {', '.join(request.step for request in asked)} were requested at once"


def _runs(folded: _Folded, runs_of: dict[tuple[str, str, str], str]) -> Iterator[str]:
    """Yield the outcome that a host published in another run than the fold expects the step in."""
    event = folded.record.event
    for run in folded.after:
        for pending in run.expected:
            runs_of.setdefault((event.key, pending.step, pending.trigger), run.id)
    if event.step and event.causation and event.run and event.source.startswith("choreo/"):
        expected = runs_of.get((event.key, event.step, event.causation), event.run)
        if expected != event.run:
            yield f"{event.type} of {event.step} is of run {event.run}; the fold expects it in {expected}"


def _invariants(
    table: FlowTable, rules: Sequence[Invariant], folded: _Folded, place: str, told: set[tuple[str, str]]
) -> Iterator[str]:
    """Yield the invariants of the flow that a state of a run breaks, each once a run."""
    for run in folded.after if rules else ():
        view = view_of(table.nearest(run.version), folded.record.event.key, run)
        for rule in rules:
            reason = broken(rule, view)
            if reason and (name_of(rule), run.id) not in told:
                told.add((name_of(rule), run.id))
                yield f"{name_of(rule)} of {place}: {reason}"


def not_crossed(logs: Mapping[str, Sequence[Sequence[Record]]]) -> Iterator[str]:
    """Yield the facts between a parent and its children that do not stand in the other's log; `logs` by flow."""
    known = {name: {r.event.id for records in partitions for r in records} for name, partitions in logs.items()}
    for records in (records for partitions in logs.values() for records in partitions):
        for record in records:
            about = record.event.outcome if record.event.type in ORDERS else -1
            planned = records[about].event if 0 <= about < len(records) else None
            for crossed in crossings(record.event, planned):
                if crossed.id not in known.get(crossed.flow, ()):
                    place = f"{record.topic} {record.event.key} at {record.partition}/{record.offset}"
                    yield f"{record.event.type} of {place} has not reached {crossed.flow} {crossed.key}"


def never_called(records: Sequence[Record], called: Container[tuple[str, str]]) -> Iterator[str]:
    """Yield the steps whose deadline has passed although their handlers were never called: their triggers were lost."""
    for record in records:
        event = record.event
        if event.type == facts.STEP_DEADLINE_PASSED and (event.run, event.step) not in called:
            yield f"{record.topic} {event.key}, run {event.run}: {event.step} was not called before its deadline"


def repeated_timers(records: Sequence[Record]) -> Iterator[str]:
    """Yield the timer facts that stand in the log so often that they were not waited for."""
    times = Counter((record.event.key, record.event.type, record.event.id) for record in records if record.event.due_ms)
    for (key, type_, id_), count in times.items():
        if count > _REPEATS_MAX:
            yield f"{type_} {id_} of {key} was published {count} times"


def lost_letters(records: Sequence[Record], kept: Sequence[DeadLetter]) -> Iterator[str]:
    """Yield the records that were set aside, by a fact in the log, and are no dead letter."""
    letters = {(letter.topic, letter.record.event.key, letter.step) for letter in kept}
    for record in records:
        event = record.event
        if event.reason.startswith(_SET_ASIDE) and (record.topic, event.key, event.step) not in letters:
            yield f"{record.topic} {event.key}: {event.step} has set its record aside, without a dead letter"
