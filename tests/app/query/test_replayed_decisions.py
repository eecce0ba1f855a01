"""Replay of decisions, timers and missing views; a recording in a file is read as the installation is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from choreo.adapters.memory.backend import MemoryBackend
from choreo.adapters.recording import Head, RecordingFile, export
from choreo.app.query.comparison import fields_of
from choreo.app.query.installation import Installation
from choreo.app.query.past import Until, until_of
from choreo.app.query.replay import Difference, Kind, Replay
from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.ports.recording import Recording
from choreo.testing import EventLike, elapsed, given
from choreo.testing.clock import VirtualClock
from tests.app.test_rebuild import PAID, with_charge
from tests.app.test_rebuild import TALES as REBUILT
from tests.app.test_rebuild import shown as rebuilt
from tests.core.order import PICKED
from tests.core.plain import HOUR_MS

TALES: dict[str, Sequence[EventLike]] = {**REBUILT, "completed": (*PAID, "Picked", "OrderConfirmed")}
"""The event from outside has an id of its own: one from its place in the log would be another in another log."""
LONGER = replace(PICKED, waits=(replace(PICKED.waits[0], timeout_ms=9 * HOUR_MS),))


async def shown(*tales: str) -> MemoryBackend:
    """Return a log with an order for each of these tales, and its views."""
    return await rebuilt(*tales, known=TALES)


async def log_of(*events: EventLike) -> MemoryBackend:
    """Return a log of one order with these events and the tracker's at their times, and no views."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create("order", 1)
    for record in given(PICKED, *events, key="o-1").log:
        await clock.advance(max(0, record.stamp_ms - clock.now_ms()) / 1_000)
        await backend.log.append("order", [record.event])
    return backend


def installation(backend: MemoryBackend, of: type[Installation] = Installation) -> Installation:
    """Return the backend as a recording."""
    return of(backend.log, backend.read_model, backend.dead_letters, backend.clock, "memory")


async def replayed(recording: Recording, definition: FlowDefinition, key: str = "") -> tuple[Replay, list[Difference]]:
    """Return the replay under this declaration, and its differences."""
    again = Replay(FlowTable(definition), recording, lambda _: {})
    return again, [difference async for difference in again.differences(key)]


async def test_all_kinds_of_ends_are_the_same_under_the_same_declaration() -> None:
    """Of all keys, and of one, whose records alone are read."""
    backend = await shown(*TALES)
    again, found = await replayed(installation(backend), PICKED)
    assert (found, again.runs, again.truncated) == ([], len(TALES), 0)
    again, found = await replayed(installation(backend), PICKED, "compensated")
    assert (found, again.runs) == ([], 1)
    assert again.records == len(given(PICKED, *TALES["compensated"]).log)


async def test_states_that_are_set_aside_for_others_are_the_same_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log has more keys than the memory has room for."""
    backend = await shown(*TALES)
    _, expected = await replayed(installation(backend), with_charge(compensation=None))
    monkeypatch.setattr("choreo.app.query.replay.CACHED_MAX", 0)
    monkeypatch.setattr("choreo.app.query.replay.READ_AT_ONCE", 3)
    assert (await replayed(installation(backend), PICKED))[1] == []
    again, found = await replayed(installation(backend), with_charge(compensation=None))
    assert (found, again.runs) == (expected, len(TALES))


async def test_a_timer_fact_that_was_too_early_is_no_difference() -> None:
    """Every reader drops it, under each declaration."""
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 1)
    for record in given(PICKED, *PAID, elapsed("1h"), key="o-1").log[:4]:
        await backend.log.append("order", [record.event])
    again, found = await replayed(installation(backend), LONGER)
    assert (again.records, found) == (4, [])


async def test_a_decision_that_the_log_lacks_is_a_difference_once_it_is_old() -> None:
    """The changed declaration takes the charge for a failure; a tracker may need some seconds for its decision."""
    backend = await shown("running")
    other = with_charge(emits=("MoneyTaken",), fails=("PaymentCharged",))
    assert isinstance(backend.clock, VirtualClock)
    for seconds, missing in ((0, set()), (60, {facts.COMPENSATION_STARTED})):
        await backend.clock.advance(seconds)
        _, found = await replayed(installation(backend), other)
        assert {each.about for each in found if each.recorded == "not in the log"} >= missing
        assert bool([each for each in found if each.recorded == "not in the log"]) == bool(missing)
        assert {each.replayed for each in found if each.about == "status"} == {"compensating"}


async def test_a_longer_wait_is_a_difference_of_moments_alone() -> None:
    """In flight that of the next timer; of a fact in the log the moment that it would have today."""
    _, found = await replayed(installation(await shown("running")), LONGER)
    assert [(each.kind, each.about) for each in found] == [(Kind.STATE, "timers")]
    _, found = await replayed(installation(await log_of(*PAID, elapsed("1h"))), LONGER)
    assert [(each.kind, each.about) for each in found] == [(Kind.TIMER, "PickTimedOut wait.Picked")]
    assert found[0].recorded < found[0].replayed


class AllShown(Installation):
    """A recording whose views claim to be past every record."""

    async def positions(self, topic: str) -> dict[int, int]:  # noqa: ARG002 - the same of each
        """Return positions behind every record."""
        return dict.fromkeys(range(2), 1 << 40)


async def test_a_run_that_the_views_lack_is_a_difference_where_they_are_past_its_start() -> None:
    """Views that are behind show less; that is none."""
    backend = await log_of(*PAID)
    _, found = await replayed(installation(backend), PICKED)
    assert found == []
    _, found = await replayed(installation(backend, AllShown), PICKED)
    assert [(each.key, each.about, each.recorded, each.replayed) for each in found] == [
        ("o-1", "run", "not shown", "running")
    ]


async def test_a_record_that_was_set_aside_is_no_difference() -> None:
    """Its dead letter is there already; another one would be new."""
    backend = await shown("running")
    strange = Envelope("x", "NobodyKnows", "running", "order")
    await backend.log.append("order", [strange])
    _, found = await replayed(installation(backend), PICKED)
    assert [(each.kind, each.about) for each in found] == [(Kind.RECORD, "NobodyKnows")]

    class Aside(Installation):
        async def set_aside(self, topic: str) -> set[tuple[int, int]]:  # noqa: ARG002 - the same of each
            """Return the place of the record."""
            return {(found[0].partition, found[0].offset)}

    _, left = await replayed(installation(backend, Aside), PICKED)
    assert left == []


@pytest.mark.parametrize(
    ("text", "until"),
    [("42", Until(42)), ("order/1/42", Until(42)), ("1970-01-01T00:00:01Z", Until(stamp_ms=1_000))],
)
def test_a_position_is_an_offset_a_place_or_a_time(text: str, until: Until) -> None:
    """A time without a zone is in UTC."""
    assert until_of(text, "order", 1) == until
    assert until_of(text.removesuffix("Z"), "order", 1) == until


@pytest.mark.parametrize("text", ["yesterday", "order/0/42", "trip/1/42", "-1", ""])
def test_a_text_that_is_no_position_of_the_key_is_refused(text: str) -> None:
    """With the remedy."""
    with pytest.raises(DecodeError) as caught:
        until_of(text, "order", 1)
    assert caught.value.remedy


async def recorded(backend: MemoryBackend, path: Path, *keys: str, partitions: int = 2) -> RecordingFile:
    """Export the backend, and open the file."""
    source = installation(backend)
    head = Head(
        recording=1,
        flow="order",
        version=1,
        partitions=partitions,
        positions=await source.positions("order"),
        keys=list(keys),
        as_of_ms=source.as_of_ms,
    )
    await export(source, head, path, lambda _: None)
    return RecordingFile(path)


async def test_a_file_holds_records_and_views_as_they_are(tmp_path: Path) -> None:
    """Read in pages, by key, and from any offset."""
    backend = await shown(*TALES)
    file, source = await recorded(backend, tmp_path / "order.jsonl"), installation(backend)
    for partition in range(2):
        whole = await source.read("order", partition, 0, 1_000)
        assert await file.read("order", partition, 0, 1_000) == whole
        assert await file.read("order", partition, 3, 2) == whole[3:5]
    for key in TALES:
        assert await file.history("order", key, 1, 2) == await source.history("order", key, 1, 2)
    views = [fields_of(row) async for row in source.views("order")]
    assert [fields_of(row) async for row in file.views("order")] == views
    _, found = await replayed(file, PICKED)
    assert found == []
    _, found = await replayed(file, with_charge(compensation=None))
    assert {each.key for each in found} == set(TALES)
    file.close()


async def test_a_file_of_one_key_knows_no_other_key_and_no_other_flow(tmp_path: Path) -> None:
    """Silence about another key would be a lie."""
    file = await recorded(await shown(*TALES), tmp_path / "order.jsonl", "running")
    again, found = await replayed(file, PICKED)
    assert (found, again.runs) == ([], 1)
    with pytest.raises(NotFoundError, match="completed"):
        await replayed(file, PICKED, "completed")
    with pytest.raises(NotFoundError, match="trip"):
        await file.partitions("trip")
    file.close()


async def test_an_export_that_fails_leaves_no_file_and_one_that_is_there_stays(tmp_path: Path) -> None:
    """Neither a whole one nor a part."""
    backend = await shown("running")
    with pytest.raises(NotFoundError):
        await recorded(backend, tmp_path / "x.jsonl", partitions=3)  # a partition too many
    assert not any(os.scandir(tmp_path))
    (await recorded(backend, tmp_path / "x.jsonl")).close()
    before = (tmp_path / "x.jsonl").read_bytes()
    with pytest.raises(ConflictError):
        await recorded(backend, tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == before
