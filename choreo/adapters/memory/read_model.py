"""The read model in a dictionary: listings look at every view, which is fast enough for tests.

A flow's topic has the flow's name, so the views of a topic are those of the flow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from choreo.adapters.cursors import as_values, cursor_after, due_place_of, place_of
from choreo.adapters.memory.topics import Topics
from choreo.adapters.rows import fits
from choreo.core.attributes import OUTCOME
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.ports.read_model import LATEST_MS, LOOKED_THROUGH, RUNS_MAX, Filter, InstanceView, Page


class _Row(NamedTuple):
    number: int
    view: InstanceView

    @property
    def place(self) -> tuple[int, int]:
        return self.view.started_ms, self.number


def _by_due(row: _Row) -> tuple[int, int]:
    return row.view.due_ms, row.number


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
        """Return the offsets up to which the views are true: the tracker's commit writes both at once."""
        return {partition: offset for partition, offset in self._folded(topic).items() if offset}

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of instances; raises NotFoundError on a cursor that this read model did not issue."""
        before = place_of(cursor)
        found = [row for row in self._rows() if row.place < before and fits(row.view, wanted)]
        found.sort(key=lambda row: row.place, reverse=True)
        page = found[:limit]
        more = len(found) > len(page) and page
        return Page([row.view for row in page], cursor_after(*page[-1].place) if more else "")

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """Return one run; without `run` the newest of the key."""
        runs = self._keys.get((flow, key), {})
        if run:
            return runs[run].view if run in runs else None
        return max(runs.values(), key=lambda row: row.place).view if runs else None

    async def runs(self, flow: str, key: str, limit: int = RUNS_MAX) -> list[InstanceView]:
        """Return every run of a key, oldest first."""
        rows = sorted(self._keys.get((flow, key), {}).values(), key=lambda row: row.place)
        return [row.view for row in rows[-limit:]]

    async def oldest(
        self, flow: str, place: str, limit: int, *, before_ms: int = LATEST_MS, partition: int = -1
    ) -> list[InstanceView]:
        """Return runs that stand there since before that moment, the longest first."""
        views = [row.view for row in self._rows() if row.view.flow == flow and row.view.place == place != ""]
        found = sorted(views, key=lambda view: view.since_ms)[: LOOKED_THROUGH if partition >= 0 else None]
        return [view for view in found if view.since_ms < before_ms and partition in (-1, view.partition)][:limit]

    async def due(self, flow: str, limit: int, cursor: str = "") -> Page:
        """Return a page of runs by their next due time; raises NotFoundError on an invalid cursor."""
        after = due_place_of(cursor)
        rows = [row for row in self._rows() if row.view.flow == flow and row.view.due_ms]
        found = sorted((row for row in rows if (row.view.due_ms, row.number) > after), key=_by_due)
        page = found[:limit]
        more = len(found) > len(page) and page
        return Page([row.view for row in page], cursor_after(*_by_due(page[-1])) if more else "")

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """Return the key's records in log order."""
        partitions = self._topics.of(flow)
        records = partitions[partition_of(key, len(partitions))][after + 1 :]
        return [record for record in records if record.event.key == key][:limit]

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        return dict(Counter(row.view.status for row in self._rows() if row.view.flow == flow))

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome."""
        keys = (row.view.keys.get(OUTCOME) for row in self._rows() if row.view.flow == flow)
        return dict(Counter(key for key in keys if key is not None))

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places."""
        return dict(
            Counter(view.place for row in self._rows() if (view := row.view).flow == flow and view.place in places)
        )

    async def drop(self, topic: str) -> None:
        """Forget every view of the topic and set the tracker back to its beginning."""
        for place in [place for place in self._keys if place[0] == topic]:
            del self._keys[place]
        self._rewind(topic)

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Return every view of the topic as values, by "key/run"."""
        views = (row.view for row in self._rows() if row.view.flow == topic)
        return {f"{view.key}/{view.run}": as_values(view) for view in views}

    def _rows(self) -> Iterable[_Row]:
        return (row for runs in self._keys.values() for row in runs.values())
