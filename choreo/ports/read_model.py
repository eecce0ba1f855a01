"""The read model: the queryable copy of the tracker's state. It can be dropped and rebuilt from the log.

Here is how it is read. It is filled with the views of a `Work`: at home on one file in the tracker's own transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from choreo.core.events import Record


class InstanceView(msgspec.Struct, frozen=True):
    """One run of a key as people see it. `attributes` are the start event's scalar fields, as text, for filters."""

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


class Filter(msgspec.Struct, frozen=True):
    """Which instances to list; empty fields do not restrict. Times are epoch milliseconds on `started_ms`."""

    flow: str = ""
    status: str = ""
    key: str = ""
    attributes: Mapping[str, str] = {}
    started_from_ms: int = 0
    started_before_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """A page of instances, newest start first; `cursor` asks for the next page, "" at the end."""

    items: Sequence[InstanceView]
    cursor: str


class ReadModel(Protocol):
    """Read by every door: REST, CLI, web."""

    async def positions(self, topic: str) -> dict[int, int]:
        """Up to which offset (the next one to fold) the views are true, by partition; absent means 0."""
        ...

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """A page of instances; raises NotFoundError on a cursor that is not one of ours."""
        ...

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """One run; without `run` the key's newest."""
        ...

    async def runs(self, flow: str, key: str) -> list[InstanceView]:
        """Every run of a key, oldest first."""
        ...

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """The key's records in log order, from after that offset."""
        ...

    async def counts(self, flow: str) -> dict[str, int]:
        """How many runs there are by status."""
        ...

    async def drop(self, topic: str) -> None:
        """Forget every view of the topic; folding the log again rebuilds them."""
        ...

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """What a rebuild is compared with: every view of the topic, by run, as values."""
        ...
