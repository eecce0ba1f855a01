"""Redis passes the suites of the inbox, the read model, and what a projector writes; so does the memory twin."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from choreo.adapters.memory import MemoryHome
from choreo.adapters.redis import RedisStores
from choreo.adapters.redis.inbox import RedisInbox
from choreo.core.events import Envelope, Position
from choreo.ports.log import Log, Member, Work
from choreo.ports.projections import Projected, Projections
from choreo.ports.read_model import InstanceView, ReadModel
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.projections import ProjectionsSuite
from choreo.testing.conformance.read_model import ReadModelSuite


class ProjectedMember:
    """The tracker's member as the suites use it: the views of its commits are saved as a projector would."""

    def __init__(self, inner: Member, topic: str, projections: Projections) -> None:
        self._inner = inner
        self._topic = topic
        self._projections = projections

    async def commit(self, work: Work) -> None:
        """Each partition's views with its position; the group's own offsets stay where they are."""
        views: dict[int, list[InstanceView]] = defaultdict(list)
        for view in work.views:
            views[view.partition].append(view)
        for partition in {*views, *work.done}:
            stands = (await self._projections.positions(self._topic)).get(partition, 0)
            done = work.done.get(partition, stands)
            batch = Projected(self._topic, partition, stands, done, views=views[partition])
            assert await self._projections.save(batch) == done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ProjectedLog:
    """A log whose records are indexed as soon as they stand in it."""

    def __init__(self, inner: Log, projections: Projections) -> None:
        self._inner = inner
        self._projections = projections

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Append, and save where each key's records stand."""
        positions = await self._inner.append(topic, events)
        for event, at in zip(events, positions, strict=True):
            stands = (await self._projections.positions(topic)).get(at.partition, 0)
            batch = Projected(topic, at.partition, stands, at.offset + 1, history={event.key: [at.offset]})
            assert await self._projections.save(batch) == at.offset + 1
        return positions

    async def member(self, topic: str, group: str, name: str) -> ProjectedMember:
        """Join a group."""
        return ProjectedMember(await self._inner.member(topic, group, name), topic, self._projections)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass
class RedisHome:
    """The stores with the log they stand beside."""

    stores: RedisStores
    log: Any

    @property
    def read_model(self) -> ReadModel:
        """What people see."""
        return self.stores.read_model

    @property
    def projections(self) -> Projections:
        """What a projector writes."""
        return self.stores.projections

    def inbox(self, service: str) -> RedisInbox:
        """The service's."""
        return self.stores.inbox(service)


@dataclass
class MemoryProjected:
    """The memory twin with its log."""

    log: Log
    projections: Projections
    read_model: ReadModel


@pytest.fixture
def home(stores: RedisStores, beside: MemoryHome) -> RedisHome:
    """An empty home for the suites of reading."""
    return RedisHome(stores, ProjectedLog(beside.log, stores.projections))


@pytest.fixture(params=["memory", "redis"])
def projected(request: pytest.FixtureRequest, beside: MemoryHome) -> RedisHome | MemoryProjected:
    """An empty home for the suite of writing."""
    if request.param == "memory":
        return MemoryProjected(beside.log, beside.projections, beside.projections.read_model)
    return RedisHome(request.getfixturevalue("stores"), beside.log)


class TestInbox(InboxSuite):
    """What a service remembers."""


class TestReadModel(ReadModelSuite):
    """What people see."""


class TestProjections(ProjectionsSuite):
    """What a projector writes."""
