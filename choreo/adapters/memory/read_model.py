"""The read model in a dictionary: listings look at every view, which is right for the sizes of tests.

A flow's topic has the flow's name (DESIGN.md 3), so a topic's views are its flow's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from choreo.adapters.memory.topics import Topics
from choreo.adapters.views import as_values, cursor_after, place_of
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.ports.read_model import Filter, InstanceView, Page


class _Row(NamedTuple):
    number: int
    view: InstanceView

    @property
    def place(self) -> tuple[int, int]:
        return self.view.started_ms, self.number


class MemoryReadModel:
    """`choreo.ports.read_model.ReadModel` in memory."""

    def __init__(self, topics: Topics, rewind: Callable[[str], None], folded: Callable[[str], dict[int, int]]) -> None:
        self._topics = topics
        self._rewind = rewind
        self._folded = folded
        self._numbers = count(1)
        self._keys: dict[tuple[str, str], dict[str, _Row]] = {}

    def save(self, views: Iterable[InstanceView]) -> None:
        """Write views, inside a commit."""
        for view in views:
            runs = self._keys.setdefault((view.flow, view.key), {})
            known = runs.get(view.run)
            runs[view.run] = _Row(known.number if known else next(self._numbers), view)

    async def positions(self, topic: str) -> dict[int, int]:
        """Up to which offset the views are true: the tracker's commit writes both at once."""
        return {partition: offset for partition, offset in self._folded(topic).items() if offset}

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """A page of instances; raises NotFoundError on a cursor that is not one of ours."""
        before = place_of(cursor)
        found = [row for row in self._rows() if row.place < before and _fits(row.view, wanted)]
        found.sort(key=lambda row: row.place, reverse=True)
        page = found[:limit]
        more = len(found) > len(page) and page
        return Page([row.view for row in page], cursor_after(*page[-1].place) if more else "")

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """One run; without `run` the key's newest."""
        runs = self._keys.get((flow, key), {})
        if run:
            return runs[run].view if run in runs else None
        return max(runs.values(), key=lambda row: row.place).view if runs else None

    async def runs(self, flow: str, key: str) -> list[InstanceView]:
        """Every run of a key, oldest first."""
        return [row.view for row in sorted(self._keys.get((flow, key), {}).values(), key=lambda row: row.place)]

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """The key's records in log order."""
        partitions = self._topics.of(flow)
        records = partitions[partition_of(key, len(partitions))][after + 1 :]
        return [record for record in records if record.event.key == key][:limit]

    async def counts(self, flow: str) -> dict[str, int]:
        """How many runs there are by status."""
        return dict(Counter(row.view.status for row in self._rows() if row.view.flow == flow))

    async def drop(self, topic: str) -> None:
        """Forget every view of the topic and set the tracker back to its beginning."""
        for place in [place for place in self._keys if place[0] == topic]:
            del self._keys[place]
        self._rewind(topic)

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Every view of the topic as values, by "key/run"."""
        views = (row.view for row in self._rows() if row.view.flow == topic)
        return {f"{view.key}/{view.run}": as_values(view) for view in views}

    def _rows(self) -> Iterable[_Row]:
        return (row for runs in self._keys.values() for row in runs.values())


def _fits(view: InstanceView, wanted: Filter) -> bool:
    return (
        wanted.flow in ("", view.flow)
        and wanted.status in ("", view.status)
        and wanted.key in ("", view.key)
        and view.started_ms >= wanted.started_from_ms
        and (not wanted.started_before_ms or view.started_ms < wanted.started_before_ms)
        and all(view.attributes.get(name) == value for name, value in wanted.attributes.items())
    )
