"""Search attributes in the folds of tracker and projector: the newest event counts, however the log is cut and read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.project import PartitionProjector
from choreo.app.tracking.rebuild import changes
from choreo.core.attributes import AttributeDefinition, AttributeSource
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.errors import DecodeError, StorageError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.hosts.tracker import TrackerHost
from choreo.ports.projections import KeyFold
from choreo.ports.read_model import InstanceView
from choreo.testing.clock import VirtualClock
from tests.core.plain import HOUR_MS, flow, step

AMOUNT = AttributeDefinition(
    "amount", "number", (AttributeSource("OrderPlaced", "amount"), AttributeSource("Priced", "price"))
)
PARCEL = AttributeDefinition(
    "parcel", "text", (AttributeSource("Moved", "parcel"), AttributeSource("TooLate", "reason"))
)
WAIT = WaitDefinition("wait.Moved", "Priced", "Moved", HOUR_MS, "", then="TooLate")
PLAIN: FlowDefinition = flow(
    step("desk.price", "OrderPlaced", "Priced", effect=False),
    step("desk.go_on", "Moved", "OrderConfirmed", effect=False),
    step("desk.end", "TooLate", "OrderConfirmed", effect=False),
    waits=(WAIT,),
)
FLOW = replace(PLAIN, attributes=(AMOUNT, PARCEL), events={**PLAIN.events, "TooLate": ("order_id", "reason")})
TABLE = FlowTable(FLOW)


class Payloads:
    """Reads payloads, which are JSON here, and keeps which were read."""

    def __init__(self) -> None:
        self.decoded: list[str] = []
        self.away = False

    def __call__(self, event: Envelope) -> Mapping[str, Any]:
        """Return the fields; raise the error of an unreadable payload, or of a registry that is away."""
        self.decoded.append(event.type)
        if self.away:
            raise StorageError("the registry does not answer")
        try:
            return dict(json.loads(event.data))
        except ValueError as error:
            raise DecodeError("is no JSON", where=event.type) from error


def start_fields(event: Envelope) -> Mapping[str, str]:
    """Return the start event's fields as texts."""
    return {name: str(value) for name, value in json.loads(event.data).items()}


def record(offset: int, type_: str, id_: str = "", run: str = "r", **fields: Any) -> Record:
    """Return an event of the run, or without one; without fields its payload is no JSON."""
    data = json.dumps(fields).encode() if fields else b"{"
    event = Envelope(id_ or f"e-{offset}", type_, "o-1", "order", run, data=data, source="test")
    return Record("order", 0, offset, 1_000 + offset, event)


def placed(**fields: Any) -> Record:
    """Return the start event."""
    return record(0, "OrderPlaced", "r", "", customer="ann", amount=5, **fields)


def tracked(records: Sequence[Record], payloads: Payloads | None = None) -> InstanceView:
    """Return the view of the run after these records in one batch."""
    fold = PartitionFold(TABLE, 0, 1, start_fields, payloads or Payloads())
    fold.put({}, ["o-1"])
    return fold.fold(records, 5_000).views[-1]


def projected(records: Sequence[Record], cuts: Sequence[int]) -> InstanceView:
    """Return the view of a projector that is restarted at these places, and reads two records again each time."""
    kept: KeyFold | None = None
    view: InstanceView | None = None
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        projector = PartitionProjector(TABLE, 0, 1, start_fields, Payloads())
        projector.put({"o-1": kept} if kept else {}, ["o-1"])
        saved = projector.fold(records[max(0, begin - 2) : end], begin, end)
        kept = saved.keys[0] if saved.keys else kept
        view = saved.views[-1] if saved.views else view
    assert view is not None
    return view


def test_the_newest_event_counts() -> None:
    """A field of the start is replaced, a value stays until the next one, and None clears it."""
    log = [placed(), record(1, "Priced", price="7.50"), record(2, "Moved", parcel="p-1"), record(3, "Priced", price=8)]
    assert tracked(log[:1]).attributes == {"customer": "ann", "amount": "5"}
    assert tracked(log[:3]).attributes == {"customer": "ann", "amount": "7.50", "parcel": "p-1"}
    view = tracked(log)
    assert view.attributes == {"customer": "ann", "amount": "8", "parcel": "p-1"}
    assert set(view.keys) == {"amount", "parcel"}
    assert tracked([*log, record(4, "Moved", parcel=None)]).attributes == {"customer": "ann", "amount": "8"}


def test_a_duplicate_takes_nothing_back() -> None:
    """The event that was read first is not the newest, though it stands last in the log; nor is the start."""
    first, second = record(1, "Priced", "a", price=7), record(2, "Priced", "b", price=8)
    again = [replace(first, offset=3), replace(placed(), offset=4)]
    assert tracked([placed(), first, second, *again]).attributes["amount"] == "8"


def test_an_event_that_cannot_be_read_changes_nothing() -> None:
    """The attribute stays as it was, nothing is set aside for it, and the run goes on."""
    fold = PartitionFold(TABLE, 0, 1, start_fields, Payloads())
    fold.put({}, ["o-1"])
    batch = fold.fold([placed(), record(1, "Priced", price=7), record(2, "Priced"), record(3, "Moved", parcel="p")], 0)
    assert batch.dead_letters == []
    assert batch.views[-1].attributes == {"customer": "ann", "amount": "7", "parcel": "p"}


def test_an_event_of_no_run_sets_nothing() -> None:
    """It is an orphan; a run that starts later does not get it."""
    early = record(0, "Moved", run="", parcel="p")
    begun = replace(placed(), offset=1)
    assert tracked([early, begun]).attributes == {"customer": "ann", "amount": "5"}


def test_only_events_that_declare_an_attribute_are_read() -> None:
    """The others are folded from their headers."""
    payloads = Payloads()
    tracked([placed(), record(1, "Priced", price=7), record(2, "OrderConfirmed")], payloads)
    assert payloads.decoded == ["OrderPlaced", "Priced"]
    fold = PartitionFold(FlowTable(PLAIN), 0, 1, start_fields, payloads)
    fold.put({}, ["o-1"])
    fold.fold([placed(), record(1, "Priced", price=7)], 0)
    assert payloads.decoded == ["OrderPlaced", "Priced"]


def test_a_schema_registry_that_is_away_is_waited_for() -> None:
    """Nothing of the batch is folded, and the same records are read again."""
    payloads = Payloads()
    payloads.away = True
    fold = PartitionFold(TABLE, 0, 1, start_fields, payloads)
    fold.put({}, ["o-1"])
    with pytest.raises(StorageError):
        fold.fold([placed()], 0)
    payloads.away = False
    assert fold.fold([placed()], 0).views[-1].attributes["amount"] == "5"


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("Priced"), st.sampled_from("abc"), st.integers(0, 9)),
        st.tuples(st.just("Moved"), st.sampled_from("xyz"), st.sampled_from(["p-1", "p-2", None])),
        st.tuples(st.just("Priced"), st.just("broken"), st.none()),
    ),
    max_size=12,
)


@drawn(EVENTS, st.lists(st.integers(1, 12), max_size=4))
def test_tracker_and_projector_agree_with_the_plain_rule(
    drawn_events: list[tuple[str, str, Any]], places: list[int]
) -> None:
    """Over any order, repetition, restart and cut: the newest first reading of an event counts."""
    known: dict[tuple[str, str], Record] = {}
    log, expected = [placed()], {"customer": "ann", "amount": "5"}
    for type_, id_, value in drawn_events:
        fields = {} if id_ == "broken" else {"price" if type_ == "Priced" else "parcel": value}
        new = (type_, id_) not in known
        event = known.setdefault((type_, id_), record(0, type_, id_, **fields))
        log.append(replace(event, offset=len(log), stamp_ms=1_000 + len(log)))
        if new and fields:
            (name,), (one,) = {"price": "amount", "parcel": "parcel"}[next(iter(fields))].split(), fields.values()
            expected.pop(name, None)
            expected.update({} if one is None else {name: str(one)})
    cuts = sorted({place for place in places if place < len(log)})
    assert tracked(log).attributes == expected
    assert projected(log, cuts).attributes == expected


async def _until_read(backend: MemoryBackend, clock: VirtualClock) -> None:
    while (await backend.read_model.positions("order")).get(0, 0) < await backend.log.end("order", 0):
        await clock.advance(0.01)


async def _tracker(backend: MemoryBackend, clock: VirtualClock, seconds: float = 0) -> None:
    """Let a new tracker read the log to its end, and for that long go on."""
    host = TrackerHost(
        FLOW,
        backend.log,
        backend.states,
        clock,
        name="t",
        attributes_of=start_fields,
        fields_of=Payloads(),
        read_model=backend.read_model,
    )
    task = asyncio.create_task(host.run())
    await _until_read(backend, clock)
    if seconds:
        await clock.advance(seconds)
        await _until_read(backend, clock)
    await host.stop()
    while not task.done():
        await clock.advance(0.1)
    await task


async def test_a_tracker_that_is_restarted_keeps_them_and_a_rebuild_gives_the_same() -> None:
    """Also an attribute from a fact of its own, which it folds right after it has published it."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create("order", 1)
    await backend.log.append("order", [placed().event, record(1, "Priced", price=7).event])
    await _tracker(backend, clock)
    await _tracker(backend, clock, seconds=HOUR_MS / 1_000 + 1)
    view = await backend.read_model.instance("order", "o-1")
    assert view is not None
    assert view.attributes.keys() == {"customer", "amount", "parcel"}
    assert view.attributes["amount"] == "7"
    assert "Moved" in view.attributes["parcel"]
    assert await changes(TABLE, backend.log, backend.read_model) == []
    before = await backend.read_model.digest("order")
    await backend.forget_views("order")
    await _tracker(backend, clock)
    assert await backend.read_model.digest("order") == before
