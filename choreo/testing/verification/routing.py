"""Which host gets which job from a record: single triggers, gates, calls of the tracker, redrives.

The gates are folded by the product's `GatedKey`, for all steps together. There a record's offset is its number, so that
a trigger that a gate releases later is found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from choreo.app.steps.gated_runs import Answer, GatedKey, GatedRun
from choreo.app.steps.handlers import RUN_FACTS
from choreo.core import facts, gates, ids, recent
from choreo.core.attribution import run_of
from choreo.core.definition import StepDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Reads
from choreo.core.identity import identified
from choreo.testing.verification import canonical
from choreo.testing.verification.pool import Pool


class Call(NamedTuple):
    """A job for one host, before its place in the log is known."""

    host: int
    undo: bool
    trigger: int
    source: int
    inbox_id: str
    failed: int = 0
    redriven: bool = False


class Routed(NamedTuple):
    """The consequences of a record for the hosts."""

    gates: int
    run: str
    """The run of the record."""
    calls: tuple[Call, ...]


class Routing:
    """The gates of all hosts, by number."""

    def __init__(self, table: FlowTable, steps: Sequence[StepDefinition], records: Pool[Envelope]) -> None:
        """Route to these steps, by their place."""
        self._table = table
        self._records = records
        self._hosts: dict[str, int] = {step.name: n for n, step in enumerate(steps)}
        self._by_trigger: dict[str, tuple[str, ...]] = {}
        for step in steps:
            for type_ in () if step.takes or step.all_of else step.triggers:
                self._by_trigger[type_] = (*self._by_trigger.get(type_, ()), step.name)
        undoing = [each for step in steps if step.compensation for each in step.compensation.needs]
        self._reads: Reads = gates.reads_of(steps, undoing)
        self._gated, self._types = _types(table, steps, self._reads)
        self.pool: Pool[bytes] = Pool()
        self.nothing: int = self.pool.number(_encode(GatedKey()))
        self._triggers: dict[str, int] = {}
        self._routed: dict[tuple[int, int], Routed] = {}

    def of(self, state: int, record: int) -> Routed:
        """Return the consequences of a record for the hosts, after these gates."""
        known = self._routed.get((state, record))
        if known is None:
            known = self._routed[state, record] = self._route(state, record)
        return known

    def runs(self, state: int) -> list[GatedRun]:
        """Return the runs of the key as hosts know them."""
        return _decode(self.pool[state]).runs

    def _route(self, state: int, number: int) -> Routed:
        event = self._records[number]
        key = _decode(self.pool[state])
        record = Record("", 0, number, event.due_ms or canonical.NOW_MS, event, fields=fields_of(event))
        calls: list[Call] = []
        answers = key.read(self._table, record, self._reads) if event.type in self._types else []
        run = event.id if event.type == self._table.flow.starts else event.run or _attributed(key, record)
        for answer in answers:
            if not answer.ignored and not self._skips_join(answer):
                about = replace(identified(self._record(answer.event.offset)), run=answer.run, hops=answer.event.hops)
                names = (answer.step,) if answer.step else self._by_trigger.get(answer.event.type, ())
                calls += self._triggered(about, names, answer.event.offset)
        if event.type in self._by_trigger and event.type not in self._gated and run:
            calls += self._triggered(replace(identified(record), run=run), self._by_trigger[event.type], number)
        calls += self._called(event, number)
        return Routed(self.pool.number(_encode(_canonical(key))), run, tuple(calls))

    def _skips_join(self, answer: Answer) -> bool:
        """Return whether a join's condition is false, by the fields of its events."""
        branches = self._table.join_branches.get(answer.step)
        if branches is None:
            return False
        step = self._table.steps[answer.step]
        fields: dict[str, Any] = {}
        for parameter, numbers in zip(step.takes, answer.arguments, strict=False):
            if parameter.type in step.all_of and numbers:
                found = fields_of(self._records[numbers[0]]) or {}
                fields |= {f"{parameter.type}.{name}": value for name, value in found.items()}
        return answer.step in branches.skipped(fields)

    def _record(self, number: int) -> Record:
        return Record("", 0, number, canonical.NOW_MS, self._records[number])

    def _triggered(self, event: Envelope, names: Sequence[str], number: int) -> list[Call]:
        skipped = self._skipped(event, names, number)
        trigger = self._records.number(event)
        self._triggers[event.id] = trigger
        return [
            Call(self._hosts[name], undo=False, trigger=trigger, source=trigger, inbox_id=event.id)
            for name in names
            if name in self._hosts and name not in skipped
        ]

    def _skipped(self, event: Envelope, names: Sequence[str], number: int) -> tuple[str, ...]:
        """Return the steps with a false condition; those of joins are judged on all their events."""
        branches = self._table.branches.get(event.type)
        if branches is None or not names:
            return ()
        judged = branches.judge(Record("", 0, number, 0, event, fields=fields_of(event)))
        return judged.skips

    def _called(self, event: Envelope, number: int) -> list[Call]:
        """Return the jobs that the tracker or an operator asks for."""
        host = self._hosts.get(event.step, -1)
        if host < 0 or (event.entry and event.step in self._table.families):
            return []  # the tracker undoes children
        if event.type == facts.COMPENSATION_REQUESTED:
            return [Call(host, undo=True, trigger=number, source=number, inbox_id=event.id)]
        if event.type == facts.STEP_RETRY_DUE and event.entry:
            request = ids.of_round("undo-request", event.entry, event.round)
            asked = self._records.number(replace(event, id=request, n=event.nothings))
            return [Call(host, undo=True, trigger=asked, source=number, inbox_id=request, failed=event.attempt)]
        if event.type == facts.STEP_RETRY_DUE and event.trigger in self._triggers:
            trigger = self._triggers[event.trigger]
            call = Call(host, undo=False, trigger=trigger, source=number, inbox_id=event.trigger, failed=event.attempt)
            return [call]
        if event.type == facts.REDRIVEN and event.trigger in self._triggers:
            trigger = self._triggers[event.trigger]
            return [Call(host, undo=False, trigger=trigger, source=number, inbox_id=event.id, redriven=True)]
        return []


def fields_of(event: Envelope) -> Mapping[str, Any] | None:
    """Return the fields in a payload of the exploration; moments in them are datetimes again."""
    if not event.data or event.type.startswith(facts.PREFIX):
        return {}
    found: dict[str, Any] = json.loads(event.data)
    moments = {name: datetime.fromisoformat(text) for name, text in found.pop(MOMENTS, {}).items()}
    return {**found, **moments}


MOMENTS = "moments of timers"
"""The name of the part of a payload that has its datetimes, which JSON has not."""


def _attributed(key: GatedKey, record: Record) -> str:
    """Return the run of an event that names none, and note that it was read."""
    event = identified(record)
    run = run_of(event, key.runs, key.retired)
    if run is None:
        return ""
    if not run.has_read(event):
        run.recent = recent.with_new(run.recent, recent.token(event.type, event.id))
    return run.id


def _types(table: FlowTable, steps: Sequence[StepDefinition], reads: Reads) -> tuple[frozenset[str], frozenset[str]]:
    """Return the types that only a gate makes a trigger, and all types that the gates read."""
    waits = table.gate_waits({type_ for step in steps for type_ in step.triggers} | reads.needed.keys())
    gated = {type_ for wait in waits for type_ in (*wait.answers, wait.late, *wait.says)} - {""}
    types = {type_ for step in steps if step.name in reads.steps for type_ in step.triggers} | reads.needed.keys()
    types |= gated | {type_ for wait in waits for type_ in (wait.on, wait.moved_by)}
    types |= {facts.WAIT_CLOSED, facts.COMPENSATION_REQUESTED} | RUN_FACTS | {table.flow.starts}
    return frozenset(gated), frozenset(types - {""})


def _canonical(key: GatedKey) -> GatedKey:
    return GatedKey(-1, canonical.NOW_MS, [_run(run) for run in key.runs])


def _run(run: GatedRun) -> GatedRun:
    kept = run.gates
    moved = canonical.gates(kept, run.pause_n)
    numbered = replace(
        moved,
        kept=tuple(sorted(kept.kept, key=lambda event: event.type)),
        members=tuple(sorted(kept.members, key=lambda member: (member.step, member.event.type))),
    )
    return replace(
        run,
        gates=numbered,
        ended_ms=canonical.NOW_MS if run.ended_ms else 0,
        paused_ms=canonical.NOW_MS if run.paused_ms else 0,
        recent=canonical.tokens(run.recent),
        fired=sorted((replace(each, arguments=()) for each in run.fired), key=lambda each: (each.step, each.trigger)),
        at_close=None if run.at_close is None else (),
    )


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(GatedKey).decode
