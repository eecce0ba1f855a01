"""The read model: the queryable copy of the tracker's state. It can be dropped and rebuilt from the log.

This is the reader's side. The views of a `CommitBatch` fill it: in the embedded backend in the tracker's own
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from choreo.core.events import Record

RUNS_MAX = 100
"""Runs of one key that are read together: a key may have any number."""


LATEST_MS = 1 << 53
"""Later than every moment, and exact in every store."""
LOOKED_THROUGH = 1_000
"""Runs of a step that are looked through for those of one partition."""


class InstanceView(msgspec.Struct, frozen=True):
    """One run of a key for people. `attributes` are the start event's scalar fields and search attributes, as text."""

    flow: str
    key: str
    run: str
    status: str
    cause: str
    started_ms: int
    changed_ms: int
    partition: int
    position: int
    """Offset of the last event folded in."""
    attributes: Mapping[str, str] = {}
    detail: bytes = b""
    """The run's state as JSON: ledger, expected steps, waits, next timer."""
    keys: Mapping[str, str | None] = {}
    """A key of each search attribute, which sorts as its values do; None: the run has no value of it. The outcome of a
    completed run is one of them, where the flow has several."""
    place: str = ""
    """The step, wait or undo in which it stands: the one for which it waits longest, or the first undo that failed.

    It is "" if the run has ended or is held.
    """
    since_ms: int = 0
    """Since when it stands there."""
    due_ms: int = 0
    """Its next due time; 0: nothing is due."""


class Condition(msgspec.Struct, frozen=True):
    """A comparison of a search attribute: `=`, `<`, `<=`, `>`, `>=`, or `^=` for "begins with".

    `key` is the other side as it stands in `InstanceView.keys`; in a query of a person, before it is checked, the text.
    """

    name: str
    operator: str
    key: str


class Filter(msgspec.Struct, frozen=True):
    """The filter of a list of instances; empty fields do not restrict. Times are epoch milliseconds on `started_ms`."""

    flow: str = ""
    status: str = ""
    key: str = ""
    attributes: Mapping[str, str] = {}
    started_from_ms: int = 0
    started_before_ms: int = 0
    conditions: Sequence[Condition] = ()
    """Comparisons of search attributes; all must hold. A run without a value matches none."""


class Page(msgspec.Struct, frozen=True):
    """A page of instances, newest start first; `cursor` asks for the next page, "" at the end."""

    items: Sequence[InstanceView]
    cursor: str


class ReadModel(Protocol):
    """The views, read by REST, CLI and web."""

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offset (the next one to fold) up to which the views are true, by partition; absent means 0."""
        ...

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of instances; raises NotFoundError on an invalid cursor."""
        ...

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """Return one run; without `run` the key's newest."""
        ...

    async def runs(self, flow: str, key: str, limit: int = RUNS_MAX) -> list[InstanceView]:
        """Return the newest runs of a key, at most `limit`, oldest first."""
        ...

    async def oldest(
        self, flow: str, place: str, limit: int, *, before_ms: int = LATEST_MS, partition: int = -1
    ) -> list[InstanceView]:
        """Return runs that stand in this step, wait or undo since before that moment, the longest first.

        With `partition` only runs of that one, among the first thousand.
        """
        ...

    async def due(self, flow: str, limit: int, cursor: str = "") -> Page:
        """Return a page of runs with a due time, the earliest first; raises NotFoundError on an invalid cursor."""
        ...

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """Return the key's records in log order, from after that offset."""
        ...

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        ...

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome, where the flow has several; see `attributes.OUTCOME`."""
        ...

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places; one without runs is absent.

        The time does not grow with the number of runs.
        """
        ...

    async def drop(self, topic: str) -> None:
        """Drop every view of the topic; folding the log again rebuilds them."""
        ...

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Return every view of the topic, by run, as values, to compare a rebuild with."""
        ...
