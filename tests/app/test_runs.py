"""The runs that a service knows from the log, and the run of an event from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.steps import gates, run_finder
from choreo.app.steps.run_finder import RunFinder
from choreo.app.steps.runs import Runs
from choreo.app.tracking.fold import PartitionFold
from choreo.core import facts
from choreo.core.attribution import oldest_open
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from choreo.ports.inbox import RunMark
from choreo.testing.clock import VirtualClock
from tests.core.order import ORDER


def fact(type_: str, offset: int = 0, *, n: int = 0, stamp_ms: int = 0) -> Record:
    """Return a fact about run r."""
    return Record("order", 0, offset, stamp_ms, Envelope(f"{type_}{n}", type_, "o-1", "order", run="r", n=n))


def test_the_first_fact_that_stops_a_run_says_since_where() -> None:
    """A trigger before it was expected; one after it was not."""
    runs = Runs()
    runs.read(fact(facts.COMPENSATION_STARTED, 7))
    runs.read(fact(facts.FLOW_COMPENSATED, 9))
    status = runs.of("r")
    assert (status.stopped, status.stopped_at, status.ended) == (True, 7, True)


def test_the_highest_number_of_the_pause_series_rules() -> None:
    """Lower ones are dropped, in any order of reading."""
    runs = Runs()
    for type_, n in [(facts.FLOW_PAUSED, 3), (facts.FLOW_RESUMED, 2), (facts.FLOW_PAUSED, 1)]:
        runs.read(fact(type_, n=n))
    assert (runs.of("r").paused, runs.of("r").pause_n) == (True, 3)
    runs.read(fact(facts.FLOW_RESUMED, n=4, stamp_ms=500))
    assert (runs.of("r").paused, runs.of("r").resumed_ms) == (False, 500)


def test_what_the_inbox_remembers_is_joined_with_what_is_read() -> None:
    """A run known only by a fact of this process is still asked about."""
    runs = Runs()
    runs.read(fact(facts.FLOW_PAUSED, 5, n=3))
    assert set(runs.unknown(["r", "s", "s"])) == {"r", "s"}
    runs.load(["r", "s"], {"r": RunMark(compensating=True, paused=False, pause_n=2, stopped_at=1)})
    assert (runs.of("r").paused, runs.of("r").stopped, runs.of("r").stopped_at) == (True, True, 1)
    assert runs.unknown(["r", "s"]) == []


@pytest.mark.parametrize("read_first", [True, False])
@pytest.mark.parametrize(
    ("mark", "read", "stopped_at"),
    [
        (RunMark(compensating=True, stopped_at=5), 20, 5),
        (RunMark(compensating=True, stopped_at=20), 5, 5),
        (RunMark(ended=True, stopped_at=5), 20, 5),
        (RunMark(paused=True, pause_n=1), 20, 20),
    ],
)
def test_the_first_turn_counts_whether_the_inbox_or_the_log_tells_of_it(
    mark: RunMark, read: int, stopped_at: int, *, read_first: bool
) -> None:
    """A duplicate stands later in the log, and may be the one that is read first."""
    runs = Runs()
    if read_first:
        runs.read(fact(facts.COMPENSATION_STARTED, read))
    runs.load(["r"], {"r": mark})
    if not read_first:
        runs.read(fact(facts.COMPENSATION_STARTED, read))
    assert (runs.of("r").stopped, runs.of("r").stopped_at) == (True, stopped_at)


def test_a_mark_of_old_that_has_no_place_tells_less_than_the_log() -> None:
    """Where the log has nothing either, the run was stopped before all records that are read now."""
    runs = Runs()
    runs.read(fact(facts.COMPENSATION_STARTED, 20))
    runs.load(["r", "s"], dict.fromkeys(("r", "s"), RunMark(compensating=True)))
    assert (runs.of("r").stopped_at, runs.of("s").stopped_at) == (20, -1)


def test_what_was_read_is_unsaved_until_it_is_saved() -> None:
    """News that comes while it is being saved stays unsaved."""
    runs = Runs()
    runs.read(fact(facts.COMPENSATION_STARTED, 1))
    marks = runs.unsaved()
    assert marks == {"r": RunMark(compensating=True, stopped_at=1)}
    runs.read(fact(facts.FLOW_PAUSED, 2, n=1))
    runs.saved(marks)
    assert runs.unsaved() == {"r": RunMark(compensating=True, paused=True, pause_n=1, stopped_at=1)}
    runs.saved(runs.unsaved())
    assert runs.unsaved() == {}


def test_memory_is_bounded() -> None:
    """The runs touched first are forgotten first; the inbox still knows them."""
    runs = Runs(known_max=2)
    for run in ("a", "b", "c"):
        runs.load([run], {})
    assert runs.unknown(["a", "b", "c"]) == ["a"]


async def run_found(history: Sequence[tuple[str, str, str]], asked: str) -> str:
    """Return the run of an event of key `asked` after this history of (type, key, run or id)."""
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 1)
    events = [
        Envelope(run, type_, key, "order", run=run if type_ != "OrderPlaced" else "") for type_, key, run in history
    ]
    await backend.log.append("order", [*events, Envelope("", "Picked", asked, "order")])
    (event,) = await backend.log.read("order", 0, len(events), 1)
    return await RunFinder(backend.log, FlowTable(ORDER), backend.inbox("mail")).run_of(event, 1)


async def test_a_finder_goes_on_where_the_inbox_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is restarted does not read its partitions from the first record again."""
    for module in (gates, run_finder):
        monkeypatch.setattr(module, "SCAN_AT_ONCE", 10)
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 1)
    starts = [Envelope(f"s-{n}", "OrderPlaced", f"o-{n}", "order", run=f"s-{n}") for n in range(25)]
    await backend.log.append("order", [*starts, Envelope("", "Picked", "o-3", "order")])
    (event,) = await backend.log.read("order", 0, 25, 1)
    looked_from: list[int] = []
    scan = backend.log.scan

    async def noted(topic: str, partition: int, offset: int, *rest: Any) -> Any:
        looked_from.append(offset)
        return await scan(topic, partition, offset, *rest)

    monkeypatch.setattr(backend.log, "scan", noted)
    for _ in range(2):
        assert await RunFinder(backend.log, FlowTable(ORDER), backend.inbox("mail")).run_of(event, 1) == "s-3"
    assert looked_from == [0, 10, 20, 20]


START, END = "OrderPlaced", facts.FLOW_COMPLETED


@pytest.mark.parametrize(
    ("history", "run"),
    [
        ([], ""),
        ([(START, "o-1", "a")], "a"),
        ([(START, "o-2", "a")], ""),
        ([(START, "o-1", "a"), (START, "o-1", "b")], "a"),
        ([(START, "o-1", "a"), (START, "o-1", "b"), (END, "o-1", "a")], "b"),
        ([(START, "o-1", "a"), (END, "o-1", "a")], ""),
        ([(START, "o-1", "a"), (END, "o-1", "a"), (START, "o-1", "a")], ""),
        (
            [
                (START, "o-1", "a"),
                (START, "o-1", "b"),
                (facts.FLOW_COMPENSATED, "o-1", "a"),
                (facts.COMPENSATION_REQUESTED, "o-1", "a"),
            ],
            "b",
        ),
    ],
)
async def test_an_event_from_outside_belongs_to_the_oldest_open_run(
    history: Sequence[tuple[str, str, str]], run: str
) -> None:
    """As starts and end facts tell, to hosts and tracker alike; a duplicate of an ended start opens nothing."""
    assert await run_found(history, "o-1") == run
    tracker = PartitionFold(FlowTable(ORDER), 0, 1, lambda _: {})
    records = [
        Record("order", 0, place, place, Envelope(run, type_, key, "order", run="" if type_ == START else run))
        for place, (type_, key, run) in enumerate(history)
    ]
    tracker.put({}, tracker.missing(records))
    if records:
        tracker.fold(records, 0)
    tracked = tracker.cache.get("o-1")
    oldest = oldest_open(tracked.state.runs) if tracked else None
    assert (oldest.id if oldest else "") == run


async def test_a_start_in_a_wrong_partition_hides_no_run_of_its_key() -> None:
    """Its offset is of another partition: what its key has at lower offsets of its own is read all the same."""
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 2)
    (own,) = await backend.log.append("order", [Envelope("s-1", "OrderPlaced", "o-1", "order", run="s-1")])
    other = next(key for key in map(str, range(9)) if partition_of(key, 2) != own.partition)
    await backend.log.append("order", [Envelope(f"x-{n}", "Picked", other, "order", run="x") for n in range(5)])
    (stray,) = await backend.log.read("order", own.partition, 0, 1)
    backend.log.topics.partition("order", 1 - own.partition).append(
        replace(stray, partition=1 - own.partition, offset=5, event=replace(stray.event, id="s-2", run="s-2"))
    )
    await backend.log.append("order", [Envelope("", "Picked", other, "order"), Envelope("", "Picked", "o-1", "order")])
    finder = RunFinder(backend.log, FlowTable(ORDER), backend.inbox("mail"))
    (of_other,) = await backend.log.read("order", 1 - own.partition, 6, 1)
    (of_key,) = await backend.log.read("order", own.partition, 1, 1)
    assert await finder.run_of(of_other, 2) == ""
    assert await finder.run_of(of_key, 2) == "s-1"
