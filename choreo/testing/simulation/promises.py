"""The promises that hold at the end of a seed, once faults are over and every bound has passed, each as a check.

Reads the log, the read model and the groups' offsets, as an operator could; the fold is compared by `choreo replay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from choreo.app.query.installation import Installation
from choreo.app.query.replay import Kind, Replay
from choreo.app.tracking.views import Detail, detail_of
from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.events import Record
from choreo.core.state import COMPENSATED, COMPLETED, FAILED, STUCK, TERMINATED, UNSETTLED
from choreo.ports.log import TRACKER_GROUP
from choreo.ports.read_model import InstanceView
from choreo.testing.books import Books
from choreo.testing.simulation import log_checks
from choreo.testing.simulation.compensations import failed_of
from choreo.testing.simulation.conductor import Conductor
from choreo.testing.simulation.hooks import EndedRun, Hooks
from choreo.testing.simulation.world import IDLE_S, World
from choreo.wiring.hosting import attributes_reader, fields_reader

_LETTERS_MAX = 10_000
ENDS = frozenset({COMPLETED, COMPENSATED, TERMINATED})


async def broken(conductor: Conductor, hooks: Hooks) -> list[str]:
    """Return the sentences of every promise that this seed has broken."""
    world = conductor.world
    rows = await conductor.rows()
    found = [f"promise 1: {failure}" for failure in world.failures]
    found += [f"{error.get('message')}: {error.get('exception')!r}" for error in world.loop.unhandled]
    found += [f"not owned: {error}" for error in world.loop.refused]
    found += conductor.calls.faults
    found += _unknown(conductor, rows)
    for row in rows:
        found += [f"{row.flow} {row.key}, run {row.run}: {fault}" for fault in _of_run(world, row)]
    found += _unanswered(conductor, rows)
    letters = await world.cluster.dead_letters.list(limit=_LETTERS_MAX)
    for name, flow in world.project.definitions.items():
        records = [record for partition in world.cluster.topics.of(name) for record in partition]
        if not _doubles_are_allowed(conductor):
            found += [f"promise 2: {fault}" for fault in _twice(flow, records)]
        found += _of_log(world, name)
        found += [f"promise 3: {fault}" for fault in log_checks.never_called(records, conductor.calls.called)]
        found += [f"promise 5: {fault}" for fault in log_checks.repeated_timers(records)]
        found += [f"promise 8: {fault}" for fault in log_checks.lost_letters(records, letters)]
        found += [f"promise 6: {fault}" async for fault in _folded(world, name)]
    logs = {name: world.cluster.topics.of(name) for name in world.project.definitions}
    found += [f"promise 1: {fault}" for fault in log_checks.not_crossed(logs)]
    await asyncio.sleep(2 * IDLE_S)  # offsets of records that concern nobody are committed by an idle poll
    for name in world.project.definitions:
        found += [f"promise 9: {fault}" async for fault in _lag(world, name)]
    runs = [EndedRun(row.flow, row.key, row.run, row.status) for row in rows]
    for book in Books.opened:
        found += [f"books: {fault}" for fault in book.faults((run.run, run.status) for run in runs)]
    return found + [f"hook {fault}" for fault in hooks.faults(runs)]


async def declared(conductor: Conductor) -> list[str]:
    """Return a sentence about each effect that stays in doubt by its flow's declaration; that breaks no promise."""
    rows = await conductor.rows()
    flows = conductor.world.project.flows.items()
    found = [each for name, flow in flows for each in failed_of(flow, [row for row in rows if row.flow == name])]
    return [each.text for each in found if each.is_declared]


def _unknown(conductor: Conductor, rows: Sequence[InstanceView]) -> Iterator[str]:
    """Yield the acknowledged starts without a run."""
    known = {(row.flow, row.run) for row in rows}
    for receipt in conductor.acknowledged:
        if (receipt.flow, receipt.run) not in known:
            yield f"promise 1: {receipt.flow} {receipt.key}: its start {receipt.id} was acknowledged, and it has no run"


def _of_run(world: World, row: InstanceView) -> Iterator[str]:
    """Yield the broken promises about the end of one run."""
    detail = detail_of(row)
    flow = world.project.definitions[row.flow]
    if row.status == STUCK:
        if not row.cause:
            yield "promise 3: it is stuck without a cause"
        if not any(effect.state == FAILED for effect in detail.ledger):
            yield "promise 3: it is stuck, and no effect has failed to be undone"
    elif row.status not in ENDS and not (detail.waits and not detail.timers and not flow.deadline_ms):
        yield f"promise 3: it is {row.status}, and every bound has passed: expected {[s.step for s in detail.expected]}"
    yield from _effects(row, detail)


def _unanswered(conductor: Conductor, rows: Sequence[InstanceView]) -> Iterator[str]:
    """Yield each compensation that has failed by itself: no planned fault has met it."""
    for name, flow in conductor.world.project.flows.items():
        for each in failed_of(flow, [row for row in rows if row.flow == name]):
            if each.is_own and (each.step, True) not in conductor.met:
                yield each.text


def _effects(row: InstanceView, detail: Detail) -> Iterator[str]:
    """Yield the effects that do not fit the end of the run."""
    if row.status == COMPENSATED:
        for effect in detail.ledger:
            if effect.state in UNSETTLED:
                yield f"promise 4: it is compensated, and the effect of {effect.step} is {effect.state}"
    if row.status == COMPLETED:
        for effect in detail.ledger:
            if effect.in_doubt or effect.state != "open":
                doubt = "in doubt and " if effect.in_doubt else ""
                yield f"promise 4: it has completed, and the effect of {effect.step} is {doubt}{effect.state}"


def _doubles_are_allowed(conductor: Conductor) -> bool:
    """Return whether two triggers of a step could each get its slot: the inbox that knew of the first was emptied."""
    fired = conductor.fired
    return bool(fired["inbox-emptied"]) and bool(fired["foreign-duplicate"] or fired["redrive"])


def _twice(flow: FlowDefinition, records: Sequence[Record]) -> Iterator[str]:
    """Yield each visible fact that a run has under two ids, and each child that was started under two."""
    starts: dict[str, dict[str, None]] = {}
    for record in records:
        if record.event.type == flow.starts and record.event.parent:
            starts.setdefault(record.event.parent, {})[record.event.id] = None
    for parent, of_parent in starts.items():
        if len(of_parent) > 1:
            yield f"{flow.name}: the child of {parent} was started {len(of_parent)} times"
    if flow.hops_max:
        return
    once = {type_ for step in flow.steps for type_ in (*step.emits, *_undone_by(step))}
    once |= {facts.FLOW_COMPLETED, facts.FLOW_TERMINATED, facts.COMPENSATION_STARTED}
    ids: dict[tuple[str, str, str, str], set[str]] = {}
    for record in records:
        event = record.event
        if event.type in once and event.run and event.source != "elsewhere":
            ids.setdefault((event.key, event.run, event.step, event.type), set()).add(event.id)
    for (key, run, step, type_), found in ids.items():
        if len(found) > 1:
            yield f"{flow.name} {key}, run {run}: {type_} of {step or 'the tracker'} happened {len(found)} times"


def _undone_by(step: object) -> tuple[str, ...]:
    undo = getattr(step, "compensation", None)
    return undo.emits if undo else ()


async def _folded(world: World, name: str) -> AsyncIterator[str]:
    """Yield the differences of the read model and the fold of the log from its beginning."""
    app = world.client.app
    flow = app.flows[name]
    backend = app.backend
    installation = Installation(backend.log, backend.read_model, backend.dead_letters, app.clock, "the simulation")
    table = app.queries.flows.table(name)
    replay = Replay(table, installation, attributes_reader(app, flow), fields_reader(app, flow))
    async for each in replay.differences():
        if each.kind is Kind.STATE:
            place = f"{name} {each.key}, run {each.run}, at {each.partition}/{each.offset}"
            yield f"{place}: {each.about} is shown as {each.recorded}, the fold has {each.replayed}"


def _of_log(world: World, name: str) -> Iterator[str]:
    """Yield the promises that a fold of the flow's log shows to be broken."""
    app = world.client.app
    flow, table = app.flows[name], app.queries.flows.table(name)
    partitions = world.cluster.topics.of(name)
    for number in range(len(partitions)):
        yield from log_checks.of_partition(table, partitions, number, fields_reader(app, flow), flow.invariants)


async def _lag(world: World, name: str) -> AsyncIterator[str]:
    """Yield the readers that have not read the log to its end."""
    log = world.client.app.backend.log
    ends = {number: len(records) for number, records in enumerate(world.cluster.topics.of(name))}
    groups = [TRACKER_GROUP, *(service.name for service in world.project.flows[name].services)]
    for group in groups:
        committed = await log.committed(name, group)
        for partition, end in ends.items():
            if committed.get(partition, 0) < end:
                yield f"group {group} has read {name}/{partition} up to {committed.get(partition, 0)} of {end}"
    positions = await world.cluster.projections.positions(name)
    for partition, end in ends.items():
        if positions.get(partition, 0) < end:
            yield f"the read model has {name}/{partition} up to {positions.get(partition, 0)} of {end}"
