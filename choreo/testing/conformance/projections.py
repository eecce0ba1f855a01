"""The suite of the projector's store: a batch is written whole or not at all, and only where the last one ended."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

from typing import Protocol

import msgspec
import pytest

from choreo.ports.log import Log
from choreo.ports.projections import KeyFold, Projected, Projections
from choreo.ports.read_model import Filter, InstanceView, ReadModel
from choreo.testing.conformance import TOPIC, event
from choreo.testing.conformance.read_model import view


class ProjectedBackend(Protocol):
    """A log, a projector's store, and its read model."""

    @property
    def log(self) -> Log: ...  # noqa: D102 -- documented in the ports
    @property
    def projections(self) -> Projections: ...  # noqa: D102
    @property
    def read_model(self) -> ReadModel: ...  # noqa: D102


def batch(begins: int, position: int, *views: InstanceView, topic: str = TOPIC, partition: int = 0) -> Projected:
    """Return a batch of these views, with a state for the key of each that holds its position."""
    folds = [KeyFold(v.key, b"\x00\xff%d" % position, {v.run: v.attributes}) for v in views]
    return Projected(topic, partition, begins, position, folds, views, {v.key: [begins] for v in views})


class ProjectionsSuite:
    """The behaviour of a projector's store."""

    async def test_a_batch_is_written_at_once(self, projected: ProjectedBackend) -> None:
        """Write position, states and views together."""
        assert await projected.projections.positions(TOPIC) == {}
        assert await projected.projections.save(batch(0, 5, view(1), view(2))) == 5
        assert await projected.projections.positions(TOPIC) == {0: 5}
        assert await projected.read_model.positions(TOPIC) == {0: 5}
        assert await projected.read_model.runs(TOPIC, "o-1") == [view(1)]
        known = await projected.projections.load(TOPIC, 0, ["o-1", "o-7"])
        assert known == {"o-1": KeyFold("o-1", b"\x00\xff5", {"r-1": {"city": "Bern", "amount": "1"}})}
        assert await projected.projections.load(TOPIC, 0, []) == {}

    @pytest.mark.parametrize("begins", [0, 4, 6])
    async def test_a_batch_that_begins_elsewhere_writes_nothing(self, projected: ProjectedBackend, begins: int) -> None:
        """Return the partition's position instead."""
        await projected.projections.save(batch(0, 5, view(1)))
        before = await projected.read_model.digest(TOPIC)
        assert await projected.projections.save(batch(begins, 9, view(1, status="stuck"), view(2))) == 5
        assert await projected.read_model.digest(TOPIC) == before
        assert await projected.read_model.positions(TOPIC) == {0: 5}
        assert await projected.projections.load(TOPIC, 0, ["o-2"]) == {}

    async def test_a_batch_sent_again_is_found_saved(self, projected: ProjectedBackend) -> None:
        """Accept the batch again: the answer to the first may have been lost."""
        for _ in range(2):
            assert await projected.projections.save(batch(0, 5, view(1))) == 5
        assert await projected.read_model.counts(TOPIC) == {"running": 1}

    async def test_records_without_views_move_the_position(self, projected: ProjectedBackend) -> None:
        """Move it for a reader that waits for the position of any record, also one without effect."""
        assert await projected.projections.save(batch(0, 3)) == 3
        assert await projected.projections.save(batch(3, 8)) == 8
        assert await projected.read_model.positions(TOPIC) == {0: 8}

    async def test_partitions_move_independently(self, projected: ProjectedBackend) -> None:
        """Keep topics apart, too."""
        await projected.projections.save(batch(0, 5, view(1)))
        await projected.projections.save(batch(0, 7, view(2), partition=1))
        other = msgspec.structs.replace(view(1), flow="refund")
        await projected.projections.save(batch(0, 2, other, topic="refund"))
        assert await projected.read_model.positions(TOPIC) == {0: 5, 1: 7}
        assert await projected.read_model.positions("refund") == {0: 2}
        assert await projected.read_model.runs("refund", "o-1") == [other]
        assert {item.flow for item in (await projected.read_model.instances(Filter(), 10)).items} == {TOPIC, "refund"}

    async def test_a_view_that_changes_is_listed_as_it_is(self, projected: ProjectedBackend) -> None:
        """List it under its new status only, and under its attributes as before."""
        await projected.projections.save(batch(0, 5, view(1), view(2)))
        await projected.projections.save(batch(5, 6, view(1, status="completed")))
        listed = projected.read_model.instances
        assert [item.key for item in (await listed(Filter(status="running"), 10)).items] == ["o-2"]
        assert [item.key for item in (await listed(Filter(status="completed"), 10)).items] == ["o-1"]
        assert [item.key for item in (await listed(Filter(attributes={"amount": "1"}), 10)).items] == ["o-1"]
        assert await projected.read_model.counts(TOPIC) == {"running": 1, "completed": 1}

    async def test_history_is_read_up_to_the_position(self, projected: ProjectedBackend) -> None:
        """Return the records of one key, in log order, from after an offset."""
        await projected.log.create(TOPIC, 1)
        await projected.log.append(TOPIC, [event(f"e-{n}", key=f"o-{n % 2}") for n in range(300)])
        odd, even = list(range(1, 300, 2)), list(range(0, 300, 2))
        for begins in range(0, 300, 100):
            history = {"o-1": odd[begins // 2 : begins // 2 + 50], "o-0": even[begins // 2 : begins // 2 + 50]}
            await projected.projections.save(Projected(TOPIC, 0, begins, begins + 100, history=history))
        found = await projected.read_model.history(TOPIC, "o-1")
        assert [record.offset for record in found] == odd
        assert {record.event.key for record in found} == {"o-1"}
        page = await projected.read_model.history(TOPIC, "o-1", after=3, limit=2)
        assert [record.event.id for record in page] == ["e-5", "e-7"]
        assert list(await projected.read_model.history(TOPIC, "o-7")) == []

    async def test_a_dropped_topic_is_folded_from_the_beginning(self, projected: ProjectedBackend) -> None:
        """Refuse a projector that is further, and build the same read model from the same batches."""
        batches = [batch(0, 5, view(1), view(2, city="Basel")), batch(5, 9, view(1, status="stuck"), view(3))]
        for each in batches:
            await projected.projections.save(each)
        before = await projected.read_model.digest(TOPIC)
        await projected.read_model.drop(TOPIC)
        assert await projected.read_model.digest(TOPIC) == {}
        assert await projected.read_model.positions(TOPIC) == {}
        assert await projected.projections.load(TOPIC, 0, ["o-1"]) == {}
        assert (await projected.read_model.instances(Filter(attributes={"city": "Bern"}), 10)).items == []
        assert await projected.projections.save(batch(9, 12, view(4))) == 0
        for each in batches:
            assert await projected.projections.save(each) == each.position
        assert await projected.read_model.digest(TOPIC) == before

    async def test_only_the_topic_named_is_dropped(self, projected: ProjectedBackend) -> None:
        """Keep the others as they are."""
        await projected.projections.save(batch(0, 5, view(1)))
        await projected.projections.save(batch(0, 5, msgspec.structs.replace(view(1), flow="order-2"), topic="order-2"))
        await projected.read_model.drop(TOPIC)
        assert await projected.read_model.positions("order-2") == {0: 5}
        assert len(await projected.read_model.digest("order-2")) == 1
