"""Stores beside a log as the conformance suites use a backend: commits and appends are projected at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from choreo.core.events import Envelope, Position
from choreo.ports.backend import StoredInbox, Stores
from choreo.ports.log import CommitBatch, Consumer, Log
from choreo.ports.projections import Projected, Projections
from choreo.ports.read_model import InstanceView, ReadModel


class ProjectedConsumer:
    """The tracker's consumer as the suites use it: the views of its commits are saved as a projector would."""

    def __init__(self, inner: Consumer, topic: str, projections: Projections) -> None:
        self._inner = inner
        self._topic = topic
        self._projections = projections

    async def commit(self, work: CommitBatch) -> None:
        """Save each partition's views with its position; the group's own offsets stay where they are."""
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
    """A log that indexes its records at once."""

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

    async def consumer(self, topic: str, group: str, name: str) -> ProjectedConsumer:
        """Join a group."""
        return ProjectedConsumer(await self._inner.consumer(topic, group, name), topic, self._projections)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass
class BesideTheLog:
    """Stores with the log that they stand beside."""

    stores: Stores
    log: Any

    @property
    def read_model(self) -> ReadModel:
        """Return the views."""
        return self.stores.read_model

    @property
    def projections(self) -> Projections:
        """Return the projector's side of them."""
        return self.stores.projections

    def inbox(self, service: str) -> StoredInbox:
        """Return the service's inbox."""
        return self.stores.inbox(service)
