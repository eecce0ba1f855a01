"""Gates: what makes an event from outside a trigger is the same to the tracker and to every host, in any order."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.app.gates import GatedKey
from choreo.core import facts
from choreo.core.definition import FlowDefinition, FlowTable, WaitDefinition
from choreo.core.events import Envelope, Record
from choreo.core.react import react
from choreo.core.state import KeyState
from tests.core.order import PICKED
from tests.core.plain import HOUR_MS, flow, step

POLL = flow(
    step("poll.ask", "OrderPlaced", "Asked", effect=False),
    step("poll.count", "Voted", "Counted", effect=False),
    step("poll.again", "Counted", "Asked", effect=False),
    step("poll.close", "Sealed", "OrderConfirmed", effect=False),
    waits=(
        WaitDefinition("wait.Voted", "Asked", "Voted", HOUR_MS, "NoVote"),
        WaitDefinition("wait.Sealed", "Voted", "Sealed", HOUR_MS, "NotSealed"),
    ),
    hops_max=1_000,
)
"""A loop through a wait, and a wait that an event from outside opens."""

RUNS = ("run-1", "run-2")
OUTSIDE = {"order": ("Picked",), "poll": ("Voted", "Sealed")}
OPENERS = {
    "order": (("stock.reserve", "StockReserved"), ("payment.charge", "PaymentCharged")),
    "poll": (("poll.ask", "Asked"), ("poll.count", "Counted"), ("poll.again", "Asked")),
}
FLOWS = {"order": PICKED, "poll": POLL}


def envelope(type_: str, id_: str, **fields: object) -> Envelope:
    """An event of the one key."""
    return Envelope(id=id_, type=type_, key="o-1", flow="order", **fields)  # type: ignore[arg-type]


@st.composite
def logs(draw: st.DrawFn, kind: str) -> list[Record]:
    """A log of starts, openers, events from outside, their duplicates, pauses, timeouts, turns and ends."""
    said: list[Envelope] = []
    records: list[Record] = []
    table, state, stamp_ms = FlowTable(FLOWS[kind]), KeyState(), 1_000
    for number in range(draw(st.integers(1, 40))):
        event = draw(st.sampled_from(_choices(kind, number, state, said)))
        said.append(event)
        stamp_ms += draw(st.sampled_from([0, 1, 60_000, HOUR_MS]))
        if event.due_ms > stamp_ms and draw(st.booleans()):
            stamp_ms = event.due_ms
        record = Record("order", 0, len(records), stamp_ms, event)
        records.append(record)
        state, _ = react(table, state, record)
    return records


def _choices(kind: str, number: int, state: KeyState, said: Sequence[Envelope]) -> list[Envelope]:
    """What may come next: anything, likely or not."""
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
    choices += [envelope("OrderPlaced", RUNS[1], run=RUNS[1]), *said]
    choices += [fact for run in state.runs for fact in run.outbox]
    choices += [
        envelope(
            wait.fails, f"late-{number}", run=run.id, step=opened.name, trigger=opened.trigger, due_ms=opened.due_ms
        )
        for run in state.runs
        for opened in run.waits
        for wait in FLOWS[kind].waits
        if wait.name == opened.name
    ]
    choices.append(envelope(facts.FLOW_TERMINATED, f"end-{number}", run=RUNS[0], reason="enough"))
    return choices


def of_tracker(definition: FlowDefinition, log: Sequence[Record]) -> list[tuple[int, str, str]]:
    """(offset, step, trigger) of every step behind a wait that becomes expected; of one on no cycle the first."""
    table, state, found, taken = FlowTable(definition), KeyState(), [], set()
    for record in log:
        before = {(r.id, e.step, e.trigger) for r in state.runs for e in r.expected}
        state, _ = react(table, state, record)
        after = [(r.id, e.step, e.trigger) for r in state.runs for e in r.expected]
        for run, name, trigger in after:
            if (run, name, trigger) in before or table.steps[name].on not in table.satisfies:
                continue
            slot = (run, name) if name not in table.cyclic else (run, name, trigger)
            if slot not in taken:
                taken.add(slot)
                found.append((record.offset, name, trigger))
    return found


def of_host(definition: FlowDefinition, log: Sequence[Record], *, read: int = 1) -> list[tuple[int, str, str]]:
    """The same as a host finds it, which reads only what it needs; `read`: how often it reads each piece of the log."""
    table, state, found, taken = FlowTable(definition), GatedKey(), [], set()
    for record in [record for record in log for _ in range(read)]:
        event = record.event
        if event.due_ms and record.stamp_ms < event.due_ms:
            continue
        for answer in state.read(table, record):
            if answer.ignored:
                continue
            for name in [name.name for name in table.triggers[answer.event.type]]:
                slot = (answer.run, name) if name not in table.cyclic else (answer.run, name, answer.event.id)
                if slot not in taken:
                    taken.add(slot)
                    found.append((record.offset, name, answer.event.id))
    return found


@settings(max_examples=400, deadline=None)
@given(log=logs("order"))
def test_tracker_and_host_find_the_same_triggers(log: list[Record]) -> None:
    """A wait on no cycle: whatever comes first, twice, late, while paused or after the turn."""
    assert of_host(PICKED, log) == of_tracker(PICKED, log), _told(log)


@settings(max_examples=400, deadline=None)
@given(log=logs("poll"))
def test_tracker_and_host_find_the_same_triggers_of_a_loop(log: list[Record]) -> None:
    """Waits on a cycle, and one that an event from outside opens."""
    assert of_host(POLL, log) == of_tracker(POLL, log), _told(log)


@settings(max_examples=100, deadline=None)
@given(log=logs("poll"))
def test_records_that_are_read_again_decide_the_same(log: list[Record]) -> None:
    """A host that takes a partition over reads on from the committed position: nothing is decided twice, or anew."""
    assert of_host(POLL, log, read=3) == of_host(POLL, log)


@settings(max_examples=100, deadline=None)
@given(log=logs("poll"))
def test_each_event_from_outside_triggers_at_most_once_and_each_opening_takes_one(log: list[Record]) -> None:
    """However often it stands in the log."""
    triggers = [(name, trigger) for _, name, trigger in of_host(POLL, log)]
    assert len(triggers) == len(set(triggers))
    opened = {record.event.id for record in log if record.event.type == "Asked"}
    assert sum(name == "poll.count" for name, _ in triggers) <= len(opened)


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


def _told(log: Sequence[Record]) -> str:
    """The log for people, one record a line."""
    return "\n".join(
        f"{r.offset} {r.stamp_ms} {r.event.type} id={r.event.id} run={r.event.run} step={r.event.step} "
        f"cause={r.event.causation} n={r.event.n} due={r.event.due_ms}"
        for r in log
    )
