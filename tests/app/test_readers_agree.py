"""Every reader of a log has the same answer: tracker, projector, hosts, histories and the auditor over random logs.

`CHOREO_READERS_SEEDS=1000` reads more of them.

The run of each event; whether a run is open, paused, stopped, ended; which event is a duplicate; the end that is shown.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Iterator

import pytest

from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.query.history import Attribution
from choreo.app.steps.handlers import RUN_FACTS
from choreo.app.steps.run_finder import RunFinder
from choreo.app.steps.runs import Runs
from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.project import PartitionProjector
from choreo.app.tracking.views import detail_of
from choreo.core import facts
from choreo.core.admission import early_ms
from choreo.core.attribution import run_of
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode
from choreo.testing.clock import VirtualClock
from tests.audit.auditor import by_run, outcome
from tests.audit.reading import Fact
from tests.audit.shape import Shape, Step, Wait
from tests.core.gate_flows import TRIP
from tests.core.order import PICKED, WIDE
from tests.core.test_duplicates import LOOP
from tests.support.stories import KEY, Story

SEEDS = int(os.environ.get("CHOREO_READERS_SEEDS", "60"))
LENGTH = 60
FLOWS = {"wait": PICKED, "two at once": WIDE, "join": TRIP, "loop": LOOP}
"""Flows with gates, joins, timers, a cycle, parallel steps and reactions."""


def stories(kind: str) -> Iterator[Story]:
    """Yield a log of each seed."""
    for seed in range(SEEDS):
        story = Story(FLOWS[kind], seed)
        story.tell(LENGTH)
        yield story


def shown(log: list[Record]) -> str:
    """Return the log as text."""
    return "\n".join(
        f"{r.offset:>3} {r.stamp_ms % 10**9:>10} {r.event.type:<30} id {r.event.id[:8]} run {r.event.run[:8]} "
        f"{r.event.step} {r.event.source}"
        for r in log
    )


def probe(flow: FlowDefinition, n: int) -> Envelope:
    """Return an event from outside that names no run."""
    return Envelope(f"probe {n}", "Probe", KEY, flow.name, source="elsewhere")


@pytest.mark.parametrize("kind", FLOWS)
def test_the_run_of_an_event_is_one_for_all_readers(kind: str) -> None:
    """Of each record, and of an event from outside after it: tracker, histories, and the step hosts' finder."""
    checked = 0
    for story in stories(kind):
        table, state, history = FlowTable(FLOWS[kind]), KeyState(), Attribution(FlowTable(FLOWS[kind]))
        found = asyncio.run(_found(story))
        for record in story.log:
            event = identified(record)
            if not early_ms(record) and event.type != table.flow.starts:
                own = run_of(event, state.runs, state.retired)
                read = copy.deepcopy(history).run_of(record)
                about = f"at {record.offset} of {kind}\n{shown(story.log)}"
                if own is not None or not event.run:
                    expected = own.id if own else ""
                    assert read == expected, f"the history has {read!r}, the tracker {expected!r} {about}"
                if not event.run:
                    host = found[record.offset]
                    assert host == (own.id if own else ""), f"the host has {host!r}, the tracker {own} {about}"
                    checked += 1
            history.run_of(record)
            state, _ = react(table, state, record)
            outside = probe(table.flow, record.offset)
            own = run_of(identified(_record(outside, record)), state.runs, state.retired)
            read = copy.deepcopy(history).run_of(_record(outside, record))
            assert read == (own.id if own else ""), f"probe at {record.offset}: {read!r}\n{shown(story.log)}"
    assert checked > SEEDS


def _record(event: Envelope, like: Record) -> Record:
    return Record(like.topic, like.partition, like.offset + 1, like.stamp_ms, event)


async def _found(story: Story) -> dict[int, str]:
    """Return the run of each record without a run, as the finder of a step host has it."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create(story.table.flow.name, 1)
    finder = RunFinder(backend.log, story.table, backend.inbox("mail"))
    found: dict[int, str] = {}
    for record in story.log:
        behind_ms = record.stamp_ms - clock.now_ms()
        if behind_ms > 0:
            await clock.advance(behind_ms / 1_000)
        await backend.log.append(story.table.flow.name, [record.event])
        if not identified(record).run and record.event.type != story.table.flow.starts:
            (own,) = await backend.log.read(story.table.flow.name, 0, record.offset, 1)
            found[record.offset] = await finder.run_of(own, 1)
    return found


@pytest.mark.parametrize("kind", FLOWS)
def test_hosts_and_tracker_agree_on_runs_that_are_stopped_paused_or_ended(kind: str) -> None:
    """After each record: a host starts no step of a run that the tracker has announced to be compensated or ended."""
    for story in stories(kind):
        table, state, runs = FlowTable(FLOWS[kind]), KeyState(), Runs()
        for record in story.log:
            state, _ = react(table, state, record)
            if record.event.type in RUN_FACTS and not early_ms(record):
                runs.read(record)
            for run in state.runs:
                status = runs.of(run.id)
                about = f"after {record.offset} of {kind}, run {run.id}\n{shown(story.log)}"
                assert status.ended == run.has_end, f"ended: host {status.ended}, tracker {run.has_end} {about}"
                assert status.stopped == (run.announced or run.has_end), f"stopped: host {status.stopped} {about}"
                if not run.has_end:
                    assert status.paused == bool(run.paused_ms), f"paused: host {status.paused} {about}"
                    assert status.pause_n == run.pause_n, f"pause number: host {status.pause_n} {about}"


@pytest.mark.parametrize("kind", FLOWS)
def test_the_projector_has_the_trackers_states_and_shows_them(kind: str) -> None:
    """Byte for byte, however the log is cut; status and effects of a row are those of the state."""
    for story in stories(kind):
        table = FlowTable(FLOWS[kind])
        projector, tracker = PartitionProjector(table, 0, 1, lambda _: {}), PartitionFold(table, 0, 1)
        at = 0
        while at < len(story.log):
            piece = story.log[at : at + 1 + story.chance.randrange(9)]
            projector.put({}, projector.missing(piece))
            made = projector.fold(piece, at, piece[-1].offset + 1)
            for record in piece:
                tracker.put({}, tracker.missing([record]))
                tracker.fold([record], 0)
            at += len(piece)
            state = tracker.cache[KEY].state
            for kept in made.keys:  # of a piece that is set aside whole there is none
                assert encode(decode(kept.state)) == encode(state), f"before {at} of {kind}\n{shown(story.log)}"
            for view in made.views:
                run = state.run(view.run)
                assert run is not None
                assert view.status == run.shown
                effects = [(each.step, each.state, each.in_doubt) for each in detail_of(view).ledger]
                assert effects == [(each.step, each.state, each.in_doubt) for each in run.ledger]


@pytest.mark.parametrize("kind", FLOWS)
def test_an_event_that_the_history_calls_a_duplicate_changes_no_run(kind: str) -> None:
    """The tracker decides nothing on it."""
    repeats = 0
    for story in stories(kind):
        table, state, history = FlowTable(FLOWS[kind]), KeyState(), Attribution(FlowTable(FLOWS[kind]))
        for record in story.log:
            early = early_ms(record)
            repeated = False if early else history.duplicate(record)
            state, decisions = react(table, state, record)
            kept = [fact.type for fact in decisions if fact.type != facts.CANCEL_REFUSED]
            if repeated and not record.event.due_ms:  # a timer fact of a pause comes again after it
                repeats += 1
                assert kept == [], f"{kept} at {record.offset} of {kind}\n{shown(story.log)}"
    assert repeats > SEEDS


@pytest.mark.parametrize("kind", FLOWS)
def test_the_auditor_has_the_same_runs_and_ends(kind: str) -> None:
    """It reads the log by rules of its own: each record's run, and the end that people are shown."""
    for story in stories(kind):
        table, state = FlowTable(FLOWS[kind]), KeyState()
        owners: dict[int, str] = {}
        for record in story.log:
            event = identified(record)
            if event.type == table.flow.starts:
                owners[record.offset] = event.id
            elif not early_ms(record):
                own = run_of(event, state.runs, state.retired)
                owners[record.offset] = own.id if own else ""
            state, _ = react(table, state, record)
        audited = by_run([_fact(record) for record in story.log], _shape(FLOWS[kind]))
        assert set(audited) == {run.id for run in state.runs}
        for run_id, told in audited.items():
            for fact in told:
                owner = owners.get(fact.offset, run_id)
                assert owner == run_id, f"{fact.where}: auditor {run_id}, tracker {owner!r}\n{shown(story.log)}"
            run = state.run(run_id)
            if run is not None and run.ended:
                end = outcome(told)
                assert end == run.status, f"auditor {end}, tracker {run.status}\n{shown(story.log)}"


def _fact(record: Record) -> Fact:
    event = identified(record)
    return Fact(
        record.partition, record.offset, record.stamp_ms, event.id, event.type, event.key, event.run, event.step,
        event.causation, event.entry, event.certain, event.data, trigger=event.trigger, round=event.round,
        outcome=event.outcome, due_ms=event.due_ms, reason=event.reason,
        is_foreign=not (record.event.id or record.event.run or record.event.causation),
    )  # fmt: skip


def _shape(flow: FlowDefinition) -> Shape:
    table = FlowTable(flow)
    steps = {
        step.name: Step(step.triggers, step.emits, step.fails, step.compensation.emits if step.compensation else ())
        for step in flow.steps
        if step.name not in table.reactions
    }
    waits = tuple(Wait(each.name, each.on, each.answers, (), each.late, turns=bool(each.fails)) for each in flow.waits)
    reactions = {step.name: Step(step.triggers, step.emits) for step in flow.steps if step.name in table.reactions}
    return Shape(flow.name, flow.starts, flow.ends, flow.fails, steps, waits, reactions)
