"""The suite of the read model's port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import pytest

from choreo.core.errors import NotFoundError
from choreo.ports.log import TRACKER_GROUP, Work
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.conformance import TOPIC, Home, event
from choreo.testing.conformance.state import tracker


def view(number: int, *, status: str = "running", key: str = "", run: str = "", city: str = "Bern") -> InstanceView:
    """A run that started at that second."""
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


async def filled(home: Home, *views: InstanceView) -> None:
    """Let the tracker write these."""
    member = await tracker(home)
    await member.commit(Work(views=views, done={0: 3}))
    await member.close()


class ReadModelSuite:
    """What people see."""

    async def test_pages_go_from_the_newest_start_back(self, home: Home) -> None:
        """A run that starts meanwhile moves no page; one that changes keeps its place."""
        await filled(home, *[view(n) for n in range(1, 8)], view(7, key="other"))
        first = await home.read_model.instances(Filter(), 3)
        assert [item.started_ms for item in first.items] == [7_000, 7_000, 6_000]
        await filled(home, view(9), view(5, status="completed"))
        second = await home.read_model.instances(Filter(), 3, first.cursor)
        assert [(item.started_ms, item.status) for item in second.items] == [
            (5_000, "completed"),
            (4_000, "running"),
            (3_000, "running"),
        ]
        last = await home.read_model.instances(Filter(), 3, second.cursor)
        assert [item.key for item in last.items] == ["o-2", "o-1"]
        assert last.cursor == ""

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
    async def test_filters_add_up(self, home: Home, wanted: Filter, keys: list[str]) -> None:
        """Every field that is set restricts."""
        await filled(home, view(1), view(2, status="stuck", city="Basel"), view(3, city="Basel"), view(4))
        assert [item.key for item in (await home.read_model.instances(wanted, 10)).items] == keys

    @pytest.mark.parametrize("cursor", ["x", "1", "1.x", "9" * 40, "1.2.3", "é"])
    async def test_a_cursor_that_is_not_ours_is_refused(self, home: Home, cursor: str) -> None:
        """With how to get one."""
        with pytest.raises(NotFoundError, match="not a cursor"):
            await home.read_model.instances(Filter(), 10, cursor)

    async def test_a_run_is_found_by_its_key(self, home: Home) -> None:
        """The newest, or the one that is named; all of them oldest first."""
        old, new = view(1, key="o-1", run="r-1", status="completed"), view(2, key="o-1", run="r-2")
        await filled(home, new, old)
        assert await home.read_model.instance(TOPIC, "o-1") == new
        assert await home.read_model.instance(TOPIC, "o-1", "r-1") == old
        assert await home.read_model.instance(TOPIC, "o-1", "r-3") is None
        assert await home.read_model.instance(TOPIC, "o-2") is None
        assert list(await home.read_model.runs(TOPIC, "o-1")) == [old, new]
        assert await home.read_model.counts(TOPIC) == {"completed": 1, "running": 1}
        assert await home.read_model.counts("refund") == {}

    async def test_history_is_the_keys_records(self, home: Home) -> None:
        """In log order, from after an offset, of that key only."""
        await home.log.create(TOPIC, 1)
        await home.log.append(TOPIC, [event(f"e-{n}", key=f"o-{n % 2}") for n in range(10)])
        history = home.read_model.history
        assert [record.event.id for record in await history(TOPIC, "o-1")] == ["e-1", "e-3", "e-5", "e-7", "e-9"]
        assert [record.offset for record in await history(TOPIC, "o-1", after=3, limit=2)] == [5, 7]
        assert list(await history(TOPIC, "o-7")) == []

    async def test_positions_are_the_trackers(self, home: Home) -> None:
        """Its commit writes views and offset at once, so a token is reached when the offset is."""
        await home.log.create(TOPIC, 2)
        assert await home.read_model.positions(TOPIC) == {}
        await filled(home, view(1))
        assert await home.read_model.positions(TOPIC) == {0: 3}

    async def test_a_rebuild_gives_the_same_digest(self, home: Home) -> None:
        """Whatever the order in which it was filled."""
        await filled(home, view(1), view(2), view(3, status="stuck"))
        before = await home.read_model.digest(TOPIC)
        assert len(before) == 3
        await home.read_model.drop(TOPIC)
        assert await home.read_model.digest(TOPIC) == {}
        assert (await home.read_model.instances(Filter(attributes={"city": "Bern"}), 10)).items == []
        assert (await home.log.committed(TOPIC, TRACKER_GROUP))[0] == 0
        await filled(home, view(3), view(2), view(1), view(3, status="stuck"))
        assert await home.read_model.digest(TOPIC) == before
        assert len((await home.read_model.instances(Filter(attributes={"city": "Bern"}), 10)).items) == 3
