"""The suite of the read model's port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import msgspec
import pytest

from choreo.core.errors import NotFoundError
from choreo.ports.log import TRACKER_GROUP, CommitBatch
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.conformance import TOPIC, Backend, event
from choreo.testing.conformance.state import tracker


def view(number: int, *, status: str = "running", key: str = "", run: str = "", city: str = "Bern") -> InstanceView:
    """Return the view of a run that started at that second."""
    return InstanceView(
        flow=TOPIC,
        key=key or f"o-{number}",
        run=run or f"r-{number}",
        status=status,
        cause="",
        started_ms=number * 1_000,
        changed_ms=number * 1_000,
        partition=0,
        position=number,
        attributes={"city": city, "amount": str(number)},
        detail=b'{"ledger":[]}',
    )


def standing(number: int, place: str, *, since_ms: int = 5, due_ms: int = 9) -> InstanceView:
    """Return the view of a run that stands in this step since that moment."""
    return msgspec.structs.replace(view(number), place=place, since_ms=since_ms, due_ms=due_ms)


async def filled(backend: Backend, *views: InstanceView) -> None:
    """Write these as the tracker does."""
    consumer = await tracker(backend)
    await consumer.commit(CommitBatch(views=views, done={0: 3}))
    await consumer.close()


class ReadModelSuite:
    """The read model, as people see it."""

    async def test_pages_go_from_the_newest_start_back(self, backend: Backend) -> None:
        """Move no page when a run starts; keep the place of a run that changes."""
        await filled(backend, *[view(n) for n in range(1, 8)], view(7, key="other"))
        first = await backend.read_model.instances(Filter(), 3)
        assert [item.started_ms for item in first.items] == [7_000, 7_000, 6_000]
        await filled(backend, view(9), view(5, status="completed"))
        second = await backend.read_model.instances(Filter(), 3, first.cursor)
        assert [(item.started_ms, item.status) for item in second.items] == [
            (5_000, "completed"),
            (4_000, "running"),
            (3_000, "running"),
        ]
        last = await backend.read_model.instances(Filter(), 3, second.cursor)
        assert [item.key for item in last.items] == ["o-2", "o-1"]
        assert last.cursor == ""

    async def test_runs_are_counted_where_they_stand(self, backend: Backend) -> None:
        """Follow every move, count a run once, and forget the counts with the views."""
        await filled(backend, *(standing(n, "pay.charge") for n in range(1, 4)), standing(4, "wait.Picked"), view(5))
        asked = ["pay.charge", "wait.Picked", "undo pay.charge"]
        assert await backend.read_model.standing(TOPIC, asked) == {"pay.charge": 3, "wait.Picked": 1}
        await filled(backend, standing(1, "undo pay.charge"), standing(2, ""), standing(3, "pay.charge", since_ms=6))
        assert await backend.read_model.standing(TOPIC, asked) == {"pay.charge": 1, "wait.Picked": 1, asked[2]: 1}
        assert await backend.read_model.standing(TOPIC, asked[1:2]) == {"wait.Picked": 1}
        assert sum((await backend.read_model.counts(TOPIC)).values()) == 5
        assert await backend.read_model.standing("refund", asked) == {}
        await backend.read_model.drop(TOPIC)
        assert await backend.read_model.standing(TOPIC, asked) == {}

    @pytest.mark.parametrize(
        ("wanted", "keys"),
        [
            (Filter(flow=TOPIC), ["o-4", "o-3", "o-2", "o-1"]),
            (Filter(flow="refund"), []),
            (Filter(status="stuck"), ["o-2"]),
            (Filter(flow=TOPIC, status="running"), ["o-4", "o-3", "o-1"]),
            (Filter(key="o-3"), ["o-3"]),
            (Filter(attributes={"city": "Basel"}), ["o-3", "o-2"]),
            (Filter(attributes={"city": "Basel", "amount": "3"}), ["o-3"]),
            (Filter(attributes={"town": "Basel"}), []),
            (Filter(started_from_ms=2_000, started_before_ms=4_000), ["o-3", "o-2"]),
        ],
    )
    async def test_filters_add_up(self, backend: Backend, wanted: Filter, keys: list[str]) -> None:
        """Restrict by every field that is set."""
        await filled(backend, view(1), view(2, status="stuck", city="Basel"), view(3, city="Basel"), view(4))
        assert [item.key for item in (await backend.read_model.instances(wanted, 10)).items] == keys

    @pytest.mark.parametrize("cursor", ["x", "1", "1.x", "9" * 40, "1.2.3", "é"])
    async def test_an_invalid_cursor_is_refused(self, backend: Backend, cursor: str) -> None:
        """Name the way to get a valid one."""
        with pytest.raises(NotFoundError, match="not a cursor"):
            await backend.read_model.instances(Filter(), 10, cursor)

    async def test_a_run_is_found_by_its_key(self, backend: Backend) -> None:
        """Return the newest, or the named one; list all of them oldest first."""
        old, new = view(1, key="o-1", run="r-1", status="completed"), view(2, key="o-1", run="r-2")
        await filled(backend, new, old)
        assert await backend.read_model.instance(TOPIC, "o-1") == new
        assert await backend.read_model.instance(TOPIC, "o-1", "r-1") == old
        assert await backend.read_model.instance(TOPIC, "o-1", "r-3") is None
        assert await backend.read_model.instance(TOPIC, "o-2") is None
        assert list(await backend.read_model.runs(TOPIC, "o-1")) == [old, new]
        assert list(await backend.read_model.runs(TOPIC, "o-1", 1)) == [new]
        assert await backend.read_model.counts(TOPIC) == {"completed": 1, "running": 1}
        assert await backend.read_model.counts("refund") == {}

    async def test_history_is_the_keys_records(self, backend: Backend) -> None:
        """Return them in log order, from after an offset, of that key only."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event(f"e-{n}", key=f"o-{n % 2}") for n in range(10)])
        history = backend.read_model.history
        assert [record.event.id for record in await history(TOPIC, "o-1")] == ["e-1", "e-3", "e-5", "e-7", "e-9"]
        assert [record.offset for record in await history(TOPIC, "o-1", after=3, limit=2)] == [5, 7]
        assert list(await history(TOPIC, "o-7")) == []

    async def test_runs_by_the_time_they_stand_in_a_step(self, backend: Backend) -> None:
        """List the longest first; a run that moves on, or ends, stands there no longer."""
        stands = [standing(n, "pay.charge", since_ms=10 - n) for n in range(1, 5)]
        await filled(backend, *stands, standing(5, "ShipmentPicked", since_ms=1), standing(6, "", since_ms=0))
        oldest = backend.read_model.oldest
        assert [view.key for view in await oldest(TOPIC, "pay.charge", 10)] == ["o-4", "o-3", "o-2", "o-1"]
        assert [view.key for view in await oldest(TOPIC, "pay.charge", 2)] == ["o-4", "o-3"]
        assert [view.key for view in await oldest(TOPIC, "pay.charge", 10, before_ms=8)] == ["o-4", "o-3"]
        assert [view.key for view in await oldest(TOPIC, "pay.charge", 1, partition=0)] == ["o-4"]
        assert list(await oldest(TOPIC, "pay.charge", 10, partition=1)) == []
        await filled(backend, standing(4, "ShipmentPicked", since_ms=20), standing(3, "", since_ms=0))
        assert [view.key for view in await oldest(TOPIC, "pay.charge", 10)] == ["o-2", "o-1"]
        assert await oldest(TOPIC, "ShipmentPicked", 10) == [
            standing(5, "ShipmentPicked", since_ms=1),
            standing(4, "ShipmentPicked", since_ms=20),
        ]
        assert list(await oldest(TOPIC, "", 10)) == []
        await backend.read_model.drop(TOPIC)
        assert list(await oldest(TOPIC, "pay.charge", 10)) == []

    async def test_runs_by_their_next_due_time(self, backend: Backend) -> None:
        """Page from the earliest on, also where many are due in one millisecond; leave out runs without a due time."""
        await filled(backend, *[standing(n, "x", due_ms=7_000) for n in range(1, 6)], standing(6, "x", due_ms=500))
        await filled(backend, standing(7, "x", due_ms=0), standing(5, "", due_ms=0))
        found, cursor = [], ""
        for _ in range(3):
            page = await backend.read_model.due(TOPIC, 2, cursor)
            found += [view.key for view in page.items]
            cursor = page.cursor
        assert cursor == ""
        assert found[0] == "o-6"
        assert sorted(found) == ["o-1", "o-2", "o-3", "o-4", "o-6"]
        with pytest.raises(NotFoundError, match="not a cursor"):
            await backend.read_model.due(TOPIC, 2, "x")

    async def test_positions_are_the_trackers(self, backend: Backend) -> None:
        """Write views and offset in one commit, so that a token is reached together with the offset."""
        await backend.log.create(TOPIC, 2)
        assert await backend.read_model.positions(TOPIC) == {}
        await filled(backend, view(1))
        assert await backend.read_model.positions(TOPIC) == {0: 3}

    async def test_a_rebuild_gives_the_same_digest(self, backend: Backend) -> None:
        """Give the same digest for any order of writing."""
        await filled(backend, view(1), view(2), view(3, status="stuck"))
        before = await backend.read_model.digest(TOPIC)
        assert len(before) == 3
        await backend.read_model.drop(TOPIC)
        assert await backend.read_model.digest(TOPIC) == {}
        assert (await backend.read_model.instances(Filter(attributes={"city": "Bern"}), 10)).items == []
        assert (await backend.log.committed(TOPIC, TRACKER_GROUP))[0] == 0
        await filled(backend, view(3), view(2), view(1), view(3, status="stuck"))
        assert await backend.read_model.digest(TOPIC) == before
        assert len((await backend.read_model.instances(Filter(attributes={"city": "Bern"}), 10)).items) == 3
