"""Gates: what makes an event from outside a trigger is the same to the tracker and to every host, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.app.steps.gated_runs import Answer, GatedKey
from choreo.app.steps.handlers import RUN_FACTS
from choreo.core import facts
from choreo.core.baggage import Carried
from choreo.core.definition import FlowDefinition, ParameterDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Seen, reads_of
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.core.timers import due
from tests.core.gate_flows import CLAIM, DEALS, FLOWS, POLL, ROUNDS, TRIAL, TRIP
from tests.core.order import PICKED
from tests.core.plain import HOUR_MS

RUNS = ("run-1", "run-2")
OUTSIDE: dict[str, tuple[str, ...]] = {
    "order": ("Picked",),
    "poll": ("Voted", "Sealed"),
    "trip": ("Signed",),
    "rounds": (),
    "deals": (),
    "trial": ("Cancelled", "Postponed"),
    "claim": ("Approved", "BossApproved", "Rated", "Called"),
}
OPENERS = {
    "order": (("stock.reserve", "StockReserved"), ("payment.charge", "PaymentCharged")),
    "poll": (("poll.ask", "Asked"), ("poll.count", "Counted"), ("poll.again", "Asked")),
    "trip": (("flight.book", "FlightBooked"), ("hotel.book", "HotelBooked")),
    "rounds": (("deal.left", "Left"), ("deal.right", "Right"), ("deal.round", "Dealt")),
    "deals": (("deal.left", "Left"), ("deal.right", "Right"), ("deal.high", "Dealt"), ("deal.mixed", "Dealt")),
    "trial": (("trial.begin", "Begun"), ("trial.bill", "Billed"), ("trial.extend", "Extended")),
    "claim": (("claim.file", "Filed"), ("claim.mail", "Mailed"), ("claim.pay", "OrderConfirmed")),
}
EPOCH = datetime.fromtimestamp(0, UTC)


def ms(duration_ms: int) -> timedelta:
    """Return a duration; one that leaves the calendar is made as long as it can be."""
    return timedelta(milliseconds=min(duration_ms, 253_402_300_799_000))


def envelope(type_: str, id_: str, **fields: object) -> Envelope:
    """Return an event of the one key."""
    return Envelope(id=id_, type=type_, key="o-1", flow="order", **fields)  # type: ignore[arg-type]


@st.composite
def logs(draw: st.DrawFn, kind: str) -> list[Record]:
    """Return a log of starts, openers, events from outside, duplicates, pauses, timeouts, compensations and ends."""
    published: list[Envelope] = []
    records: list[Record] = []
    table, state, stamp_ms = FlowTable(FLOWS[kind]), KeyState(), 100_000
    for number in range(draw(st.integers(1, 40))):
        choices = _choices(kind, number, state, published)
        if table.reminders:
            choices += [fact for fact in due(table, "o-1", state, stamp_ms + HOUR_MS) if fact.type in table.reminders]
        event = draw(st.sampled_from(choices))
        if event not in published:
            baggage = draw(st.sampled_from(["", f"last={number}", f"n{number}=1"]))
            event = replace(event, baggage=baggage, traceparent=draw(st.sampled_from(["", f"00-{number}"])))
        published.append(event)
        stamp_ms += draw(st.sampled_from([0, 1, 60_000, HOUR_MS, -500]))  # a broker's clock may be behind another's
        if event.due_ms > stamp_ms and draw(st.booleans()):
            stamp_ms = event.due_ms
        record = Record("order", 0, len(records), stamp_ms, event)
        if event.type in table.decoded:
            fields: dict[str, Any] = {"amount": crc32(event.id.encode()) % 4}
            if event.type in table.moments:
                later_ms = draw(st.sampled_from([-HOUR_MS, 0, 30_000, HOUR_MS, 9_000_000 * HOUR_MS, None]))
                fields["moment"] = None if later_ms is None else f"{EPOCH + ms(stamp_ms + later_ms)}"
            record = replace(record, fields=fields)
        records.append(record)
        state, _ = react(table, state, record)
    return records


def _choices(kind: str, number: int, state: KeyState, published: Sequence[Envelope]) -> list[Envelope]:
    """Return all events that may come next, likely or not."""
    if not number:
        return [envelope("OrderPlaced", RUNS[0], run=RUNS[0])]
    choices = [envelope(type_, f"outside-{number}") for type_ in OUTSIDE[kind] for _ in range(3)]
    choices += [envelope(type_, f"outside-{number}", run=RUNS[0]) for type_ in OUTSIDE[kind]]
    for run in [run.id for run in state.runs]:
        about = {"run": run, "hops": 1}
        for name, type_ in OPENERS[kind]:
            trigger = next((e.trigger for r in state.runs if r.id == run for e in r.expected if e.step == name), "x")
            choices.append(envelope(type_, f"{type_}-{number}", step=name, causation=trigger, **about))
        choices.append(envelope(facts.FLOW_PAUSED, f"pause-{number}", n=number, run=run))
        choices.append(envelope(facts.FLOW_RESUMED, f"resume-{number}", n=number, run=run))
    choices += [envelope("OrderPlaced", RUNS[1], run=RUNS[1]), *published]
    choices += [fact for run in state.runs for fact in run.outbox]
    choices += [
        envelope(
            wait.late, f"late-{number}", run=run.id, step=opened.name, trigger=opened.trigger, due_ms=opened.due_ms
        )
        for run in state.runs
        for opened in run.waits
        for wait in FLOWS[kind].waits
        if wait.name == opened.name and wait.late
    ]
    choices += [
        envelope(wait.late, f"crossing-{number}", run=run.id, step=o.wait, trigger=o.trigger, due_ms=o.due_ms or 1)
        for run in state.runs
        for o in (run.gates.openings if run.compensating else ())
        for wait in FLOWS[kind].waits
        if wait.name == o.wait and wait.late
    ]
    choices.append(envelope(facts.FLOW_TERMINATED, f"end-{number}", run=RUNS[0], reason="enough"))
    choices.append(envelope(facts.CANCEL_REQUESTED, f"cancel-{number}", run=RUNS[0], reason="enough"))
    return choices


Found: TypeAlias = tuple[int, str, str, Carried | None]
"""Offset of the record that starts a step, the step, its trigger, and the headers that its attempts get."""


def of_tracker(definition: FlowDefinition, log: Sequence[Record]) -> list[Found]:
    """Return the steps behind a wait, and the joins, that become expected; of one on no cycle the first."""
    table, state, taken = FlowTable(definition), KeyState(), set()
    found: list[Found] = []
    timed = {*table.satisfies, *table.timeouts, *table.reminders}
    for record in log:
        before = {(r.id, e.step, e.trigger) for r in state.runs for e in r.expected}
        state, _ = react(table, state, record)
        after = [(r.id, e.step, e.trigger, e.carried) for r in state.runs for e in r.expected]
        for run, name, trigger, carried in after:
            gated = table.steps[name].all_of or table.steps[name].on in timed
            if (run, name, trigger) in before or not gated:
                continue
            slot = (run, name) if name not in table.cyclic else (run, name, trigger)
            if slot not in taken:
                taken.add(slot)
                found.append((record.offset, name, trigger, carried))
    return found


def of_host(definition: FlowDefinition, log: Sequence[Record], *, read: int = 1) -> list[Found]:
    """Return the same from a host, which reads only what it needs; `read`: how often it reads each piece of the log."""
    table, state, taken = FlowTable(definition), GatedKey(), set()
    found: list[Found] = []
    reads = reads_of(definition.steps)
    folded = {table.flow.starts, facts.WAIT_CLOSED, *table.gated, *table.timeouts, *table.reminders, *RUN_FACTS}
    for record in [record for record in log for _ in range(read)]:
        event = record.event
        if event.type not in folded or (event.due_ms and record.stamp_ms < event.due_ms):
            continue
        for answer in state.read(table, record, reads):
            if answer.ignored:
                continue
            plain = [each.name for each in table.triggers.get(answer.event.type, ())]
            for name in [answer.step] if answer.step else plain:
                if name in table.join_branches and name in table.join_branches[name].skipped(_members(log, answer)):
                    continue
                slot = (answer.run, name) if name not in table.cyclic else (answer.run, name, answer.event.id)
                if slot not in taken:
                    taken.add(slot)
                    found.append((record.offset, name, answer.event.id, answer.event.carried))
    return found


def _members(log: Sequence[Record], answer: Answer) -> dict[str, object]:
    """Return the fields of a join's members, which a host reads from the log."""
    members = [log[offset] for offsets in answer.arguments for offset in offsets]
    return {f"{member.event.type}.{name}": value for member in members for name, value in (member.fields or {}).items()}


@settings(max_examples=400, deadline=None)
@given(log=logs("deals"))
def test_tracker_and_host_judge_the_same_joins_alike(log: list[Record]) -> None:
    """The tracker keeps the comparisons that hold for each member, a host reads the members again."""
    assert of_host(DEALS, log) == of_tracker(DEALS, log), _spec_of(log)
    assert of_host(DEALS, log, read=2) == of_host(DEALS, log)


@settings(max_examples=400, deadline=None)
@given(log=logs("order"))
def test_tracker_and_host_find_the_same_triggers(log: list[Record]) -> None:
    """A wait on no cycle: events may come first, twice, late, while paused or after compensation started."""
    assert of_host(PICKED, log) == of_tracker(PICKED, log), _spec_of(log)


@settings(max_examples=400, deadline=None)
@given(log=logs("trip"))
def test_tracker_and_host_find_the_same_trigger_of_a_join(log: list[Record]) -> None:
    """Its events may come in any order, twice, before their wait, or after compensation started."""
    assert of_host(TRIP, log) == of_tracker(TRIP, log), _spec_of(log)


@settings(max_examples=400, deadline=None)
@given(log=logs("rounds"))
def test_tracker_and_host_find_the_same_triggers_of_a_join_on_a_cycle(log: list[Record]) -> None:
    """Each start takes the oldest event of each type."""
    assert of_host(ROUNDS, log) == of_tracker(ROUNDS, log), _spec_of(log)


@settings(max_examples=400, deadline=None)
@given(log=logs("poll"))
def test_tracker_and_host_find_the_same_triggers_of_a_loop(log: list[Record]) -> None:
    """RetryTimers on a cycle, and one that an event from outside opens."""
    assert of_host(POLL, log) == of_tracker(POLL, log), _spec_of(log)


@settings(max_examples=100, deadline=None)
@given(log=logs("trial"))
def test_tracker_and_host_find_the_same_triggers_of_timers_that_are_moved(log: list[Record]) -> None:
    """A fact from before the move is void for both, also where the host cannot know the moment, or nobody can."""
    assert of_host(TRIAL, log) == of_tracker(TRIAL, log), _spec_of(log)


@settings(max_examples=100, deadline=None)
@given(log=logs("claim"))
def test_tracker_and_host_find_the_same_triggers_of_reminders_and_optional_waits(log: list[Record]) -> None:
    """A reminder that crosses the answer, or a pause, and an answer that crosses the close, are the same to both."""
    assert of_host(CLAIM, log) == of_tracker(CLAIM, log), _spec_of(log)


@settings(max_examples=100, deadline=None)
@given(log=logs("claim"))
def test_tracker_and_host_agree_which_waits_are_open_and_how_often_they_have_reminded(log: list[Record]) -> None:
    """After every record: the openings are one and the same, whatever was read twice or came from before a pause."""
    table, state, host = FlowTable(CLAIM), KeyState(), GatedKey()
    for record in log:
        state, _ = react(table, state, record)
        if not (record.event.due_ms and record.stamp_ms < record.event.due_ms):
            host.read(table, record)
        ours = {run.id: run.gates.openings for run in state.runs if not run.compensating and not run.ended}
        theirs = {run.id: run.gates.openings for run in host.runs}
        assert {run: theirs[run] for run in ours} == ours, _spec_of(log)
        for run in state.runs if ours else ():
            shown = [(w.name, w.due_ms, w.reminder_ms, w.reminded, w.escalation_ms) for w in run.waits]
            known = [(o.wait, o.due_ms, o.reminder_ms, o.reminded, o.escalation_ms) for o in run.gates.openings]
            assert run.id not in ours or sorted(shown) == sorted(known), _spec_of(log)


@settings(max_examples=300, deadline=None)
@given(log=st.one_of(logs("poll"), logs("trial")))
def test_tracker_and_host_agree_which_time_outs_count(log: list[Record]) -> None:
    """One in a pause, of a wait that is over or that was moved, ends no wait for either: no reaction runs on it."""
    kind = TRIAL if any(record.event.type in ("Begun", "Postponed", "Cancelled") for record in log) else POLL
    table, state, host = FlowTable(kind), KeyState(), GatedKey()
    for record in log:
        before = {run.id: run.gates.openings for run in state.runs}
        state, _ = react(table, state, record)
        if record.event.type not in table.timeouts:
            host.read(table, record)
        elif record.event.due_ms <= record.stamp_ms:
            ended = any(len(run.gates.openings) < len(before[run.id]) for run in state.runs)
            assert bool(host.read(table, record)) == ended, _spec_of(log)


@settings(max_examples=100, deadline=None)
@given(log=logs("poll"))
def test_records_that_are_read_again_decide_the_same(log: list[Record]) -> None:
    """A host that takes a partition over reads on from the committed position: nothing is decided twice, or anew."""
    assert of_host(POLL, log, read=3) == of_host(POLL, log)


@settings(max_examples=100, deadline=None)
@given(log=logs("poll"))
def test_each_event_from_outside_triggers_at_most_once_and_each_opening_takes_one(log: list[Record]) -> None:
    """However often it stands in the log."""
    triggers = [(name, trigger) for _, name, trigger, _ in of_host(POLL, log)]
    assert len(triggers) == len(set(triggers))
    opened = {record.event.id for record in log if record.event.type == "Asked"}
    assert sum(name == "poll.count" for name, _ in triggers) <= len(opened)


@settings(max_examples=300, deadline=None)
@given(log=logs("order"))
def test_what_a_compensation_needs_is_settled_when_the_gates_close(log: list[Record]) -> None:
    """It is what a host knew that read the log no further than there, however far the other reads, and how often."""
    needs = (ParameterDefinition("StockReserved"), ParameterDefinition("PaymentCharged", many=True))
    table, reads, settled = FlowTable(PICKED), reads_of(PICKED.steps, needs), dict[str, tuple[Seen, ...]]()
    whole, twice = GatedKey(), GatedKey()
    for place, record in enumerate(log):
        whole.read(table, record, reads)
        for again in log[max(0, place - 2) : place + 1]:
            twice.read(table, again, reads)
        for run in whole.runs:
            if run.at_close is not None:
                assert settled.setdefault(run.id, run.gates.seen) == run.at_close, _spec_of(log)
    assert {run.id: run.at_close for run in whole.runs} == {run.id: run.at_close for run in twice.runs}
    assert all(offset < len(log) for seen in settled.values() for each in seen for offset in each.offsets)


def test_times_count_from_the_stamps_of_the_records_that_both_read() -> None:
    """A broker that takes a partition over may be behind: a host does not know the later stamp of another record."""
    table, state, host, times = FlowTable(CLAIM), KeyState(), GatedKey(), (1_000, 9_000, 5_000, 6_000, 5_500, 7_000)
    events = [
        envelope("OrderPlaced", RUNS[0], run=RUNS[0]),
        envelope("Mailed", "m-1", step="claim.mail", run=RUNS[0], causation="x"),
        envelope("Filed", "f-1", step="claim.file", run=RUNS[0], causation=RUNS[0]),
        envelope(facts.FLOW_PAUSED, "p-1", n=1, run=RUNS[0]),
        envelope(facts.FLOW_RESUMED, "p-2", n=2, run=RUNS[0]),
        envelope("Other", "o-1"),
    ]
    for offset, (event, stamp_ms) in enumerate(zip(events, times, strict=True)):
        record = Record("order", 0, offset, stamp_ms, event)
        state, _ = react(table, state, record)
        if event.type != "Mailed":
            host.read(table, record)
    assert host.runs[0].gates.openings == state.runs[0].gates.openings
    (wait,) = (wait for wait in state.runs[0].waits if wait.name == "wait.approval")
    assert (wait.due_ms, wait.reminder_ms) == (5_000 + 5 * HOUR_MS, 5_000 + HOUR_MS)
    (said, *_) = due(table, "o-1", state, wait.reminder_ms)
    assert [answer.event.type for answer in host.read(table, Record("order", 0, 9, said.due_ms, said))] == ["Reminded"]


def test_a_loop_through_a_wait_is_bounded() -> None:
    """An event from outside takes the hops of what opened its wait and one more."""
    table, state = FlowTable(replace(POLL, hops_max=10)), KeyState()
    events = [
        envelope("OrderPlaced", RUNS[0], run=RUNS[0]),
        envelope("Asked", "a-0", run=RUNS[0], step="poll.ask", hops=1),
    ]
    for turn in range(6):
        hops = 2 + 3 * turn
        about = {"run": RUNS[0], "causation": f"v-{turn}"}
        events += [
            envelope("Voted", f"v-{turn}"),
            envelope("Counted", f"c-{turn}", step="poll.count", hops=hops + 1, **about),
            envelope("Asked", f"a-{turn + 1}", step="poll.again", hops=hops + 2, run=RUNS[0], causation=f"c-{turn}"),
        ]
    for offset, event in enumerate(events):
        state, _ = react(table, state, Record("order", 0, offset, 1_000, event))
    (run,) = state.runs
    assert run.cause == "more than 10 hops: Voted came round too often"


def _spec_of(log: Sequence[Record]) -> str:
    """Return the log for people, one record a line."""
    return "\n".join(
        f"{r.offset} {r.stamp_ms} {r.event.type} id={r.event.id} run={r.event.run} step={r.event.step} "
        f"cause={r.event.causation} n={r.event.n} due={r.event.due_ms}"
        for r in log
    )
