"""The read model in Redis. A listing walks the narrowest index of its filter and stops at the end of its page.

Redis holds only the offsets of a key's records; the log holds the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choreo.adapters.cursors import as_values
from choreo.adapters.history import records_at
from choreo.adapters.nul_free import escaped, unescaped
from choreo.adapters.redis.server import RedisServer
from choreo.adapters.redis.view_generations import ViewGenerations
from choreo.adapters.rows import (
    FIRST,
    Place,
    attribute_index,
    cursor_after,
    due_place_of,
    fits,
    place_of,
    row_id,
    view_of,
)
from choreo.core.attributes import OUTCOME
from choreo.core.events import Record
from choreo.core.state import STATUSES
from choreo.ports.log import Log
from choreo.ports.read_model import LATEST_MS, LOOKED_THROUGH, RUNS_MAX, Condition, Filter, InstanceView, Page

CHUNK_MAX = 1_000
"""Rows read in one round trip where a filter accepts few of them: some 2 MB."""


class RedisReadModel:
    """`choreo.ports.read_model.ReadModel` in Redis. Everything raises StorageError when the server cannot be used."""

    def __init__(self, server: RedisServer, generations: ViewGenerations, log: Log) -> None:
        """Read the records of histories from `log`."""
        self._server = server
        self._generations = generations
        self._log = log

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offsets up to which the views are true, by partition."""
        return await self._generations.positions(topic)

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of instances; raises NotFoundError on a cursor that this read model did not issue."""
        before = place_of(cursor)
        found: list[tuple[Place, InstanceView]] = []
        for flow in [wanted.flow] if wanted.flow else await self._generations.flows():
            found += await self._newest(flow, wanted, before, limit + 1)
        found.sort(key=lambda item: item[0], reverse=True)
        page = found[:limit]
        more = len(found) > len(page) and page
        return Page([view for _, view in page], cursor_after(page[-1][0]) if more else "")

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """Return one run; without `run` the newest of the key."""
        root = await self._generations.root(flow)
        rows: Sequence[str | bytes] = [row_id(key, run)]
        if not run:
            rows = await self._server.ask("ZRANGE", f"{root}:runs:{key}", 0, 0, "REV")
        return next(iter(await self._views(root, rows)), None)

    async def runs(self, flow: str, key: str, limit: int = RUNS_MAX) -> list[InstanceView]:
        """Return every run of a key, oldest first."""
        root = await self._generations.root(flow)
        return await self._views(root, await self._server.ask("ZRANGE", f"{root}:runs:{key}", -limit, -1))

    async def oldest(
        self, flow: str, place: str, limit: int, *, before_ms: int = LATEST_MS, partition: int = -1
    ) -> list[InstanceView]:
        """Return runs that stand there since before that moment, the longest first."""
        root = await self._generations.root(flow)
        size = limit if partition < 0 else LOOKED_THROUGH
        rows = await self._server.ask(
            "ZRANGE", f"{root}:place:{place}", "-inf", f"({before_ms}", "BYSCORE", "LIMIT", 0, size
        )
        return [view for view in await self._views(root, rows) if partition in (-1, view.partition)][:limit]

    async def due(self, flow: str, limit: int, cursor: str = "") -> Page:
        """Return a page of runs by their next due time; raises NotFoundError on an invalid cursor."""
        after, root, size = due_place_of(cursor), await self._generations.root(flow), limit + 1
        while True:
            listed = await self._server.ask(
                "ZRANGE", f"{root}:due", after.started_ms, "+inf", "BYSCORE", "LIMIT", 0, size, "WITHSCORES"
            )
            places = [Place(int(due_ms), row, flow.encode()) for row, due_ms in zip(*[iter(listed)] * 2, strict=True)]
            fresh = [place for place in places if place > after]
            if len(fresh) > limit or len(places) < size:
                break
            size *= 2  # rows that are due in the millisecond of the last one are read again
        found = await self._at(root, fresh[:limit])
        more = len(fresh) > limit and limit
        return Page([view for _, view in found], cursor_after(fresh[limit - 1]) if more else "")

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """Return the key's records in log order."""
        root = await self._generations.root(flow)
        offsets = [
            int(offset)
            for offset in await self._server.ask(
                "ZRANGE", f"{root}:history:{key}", f"({after}", "+inf", "BYSCORE", "LIMIT", 0, limit
            )
        ]
        return await records_at(self._log, flow, key, offsets)

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        root = await self._generations.root(flow)
        counts = await self._server.ask_all([("ZCARD", f"{root}:status:{status}") for status in STATUSES])
        return {status: number for status, number in zip(STATUSES, counts, strict=True) if number}

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome: one step in the index for each."""
        index = f"{await self._generations.root(flow)}:keys:{OUTCOME}"
        found: dict[str, int] = {}
        least = b"-"
        while first := await self._server.ask("ZRANGE", index, least, b"+", "BYLEX", "LIMIT", 0, 1):
            key = first[0].partition(b"\0")[0]
            least = b"(" + key + b"\0\xff"
            found[unescaped(key.decode())] = await self._server.ask("ZLEXCOUNT", index, b"[" + key + b"\0", least)
        return found

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places: the size of each one's index."""
        root = await self._generations.root(flow)
        sizes = await self._server.ask_all([("ZCARD", f"{root}:place:{place}") for place in places])
        return {place: size for place, size in zip(places, sizes, strict=True) if size}

    async def drop(self, topic: str) -> None:
        """Forget the topic's views, states and positions: projectors fold it again from its beginning."""
        await self._generations.drop(topic)

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Return every view of the topic as values, by "key/run"."""
        root = await self._generations.root(topic)
        digest: dict[str, Any] = {}
        cursor: bytes | int = 0
        while True:
            cursor, rows = await self._server.ask("HSCAN", f"{root}:rows", cursor, "COUNT", CHUNK_MAX)
            for view in map(view_of, rows.values()):
                digest[f"{view.key}/{view.run}"] = as_values(view)
            if not int(cursor):
                return dict(sorted(digest.items()))

    async def _newest(self, flow: str, wanted: Filter, before: Place, number: int) -> list[tuple[Place, InstanceView]]:
        """Return the flow's first rows behind that place that match the filter; at most `number`."""
        root = await self._generations.root(flow)
        few = await self._among_few(root, wanted)
        if few is not None:
            placed = [(Place(view.started_ms, row, flow.encode()), view) for row, view in few if fits(view, wanted)]
            return sorted((one for one in placed if one[0] < before), reverse=True, key=lambda one: one[0])[:number]
        index = await self._narrowest(root, wanted)
        lowest = wanted.started_from_ms or "-inf"
        latest_ms = wanted.started_before_ms - 1 if wanted.started_before_ms else FIRST.started_ms
        found: list[tuple[Place, InstanceView]] = []
        size = number
        while True:
            highest = min(before.started_ms, latest_ms)
            listed = await self._server.ask(
                "ZRANGE", index, highest, lowest, "BYSCORE", "REV", "LIMIT", 0, size, "WITHSCORES"
            )
            places = [
                Place(int(started_ms), row, flow.encode())
                for row, started_ms in zip(listed[::2], listed[1::2], strict=True)
            ]
            fresh = [place for place in places if place < before]
            for place, view in await self._at(root, fresh):
                if fits(view, wanted):
                    found.append((place, view))
            if len(found) >= number or len(places) < size:
                return found[:number]
            # Rows that started in the same millisecond as the last one are read again: skip them.
            size = size * 2 if not fresh or size < CHUNK_MAX else size
            before = fresh[-1] if fresh else before

    async def _among_few(self, root: str, wanted: Filter) -> list[tuple[bytes, InstanceView]] | None:
        """Return all rows that meet one of the conditions, where they are few; else None."""
        for condition in wanted.conditions:
            index, (least, most) = f"{root}:keys:{condition.name}", _range(condition)
            if await self._server.ask("ZLEXCOUNT", index, least, most) <= CHUNK_MAX:
                found = await self._server.ask("ZRANGE", index, least, most, "BYLEX")
                rows = [member.partition(b"\0")[2] for member in found]
                values = await self._server.ask("HMGET", f"{root}:rows", *rows) if rows else ()
                return [(row, view_of(value)) for row, value in zip(rows, values, strict=True) if value is not None]
        return None

    async def _narrowest(self, root: str, wanted: Filter) -> str:
        """Return the smallest index that holds all rows that match."""
        names = [f"{root}:{attribute_index(name, value)}" for name, value in wanted.attributes.items()]
        if wanted.status:
            names.append(f"{root}:status:{wanted.status}")
        if wanted.key:
            names.append(f"{root}:runs:{wanted.key}")
        if len(names) < 2:
            return names[0] if names else f"{root}:all"
        sizes = await self._server.ask_all([("ZCARD", name) for name in names])
        return min(zip(sizes, names, strict=True))[1]

    async def _at(self, root: str, places: Sequence[Place]) -> list[tuple[Place, InstanceView]]:
        """Return the views at these places; one that was removed meanwhile is left out."""
        if not places:
            return []
        values = await self._server.ask("HMGET", f"{root}:rows", *(place.row for place in places))
        return [(place, view_of(value)) for place, value in zip(places, values, strict=True) if value is not None]

    async def _views(self, root: str, rows: Sequence[str | bytes]) -> list[InstanceView]:
        if not rows:
            return []
        values = await self._server.ask("HMGET", f"{root}:rows", *rows)
        return [view_of(value) for value in values if value is not None]


def _range(condition: Condition) -> tuple[bytes, bytes]:
    """Return the places in an index of keys between which all matches lie; a place is a key, NUL, and a row's id."""
    key = escaped(condition.key).encode()
    last = key + b"\0\xff"  # no id begins so
    match condition.operator:
        case "=":
            return b"[" + key + b"\0", b"(" + last
        case "^=":
            return b"[" + key, b"(" + key + b"\xff"
        case "<":
            return b"-", b"(" + key
        case "<=":
            return b"-", b"(" + last
        case ">":
            return b"(" + last, b"+"
    return b"[" + key, b"+"
