"""The read model as rows. A listing walks an index and stops at the end of its page.

A flow's topic has the flow's name, so the views of a topic are those of the flow. Every result is flushed to the disk
before it is returned: people and programs act on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from choreo.adapters.cursors import as_values, cursor_after, due_place_of, place_of
from choreo.adapters.nul_free import escaped, unescaped
from choreo.adapters.rows import after_prefix
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.reader import Reader
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.schema import PLACES
from choreo.adapters.sqlite.writer import Writer
from choreo.core.attributes import OUTCOME
from choreo.core.events import Record
from choreo.ports.read_model import LATEST_MS, LOOKED_THROUGH, RUNS_MAX, Condition, Filter, InstanceView, Page

_COLUMNS = """flow, key, run, status, cause, started_ms, changed_ms, partition, position, attributes, detail, place,
    since_ms, due_ms"""
_encode = msgspec.json.encode
_INSTANCES = Bulk(
    f"instances ({_COLUMNS})",
    """ON CONFLICT (flow, key, run) DO UPDATE SET status = excluded.status, cause = excluded.cause,
    changed_ms = excluded.changed_ms, position = excluded.position, detail = excluded.detail,
    place = excluded.place, since_ms = excluded.since_ms, due_ms = excluded.due_ms,
    attributes = iif(excluded.attributes = '{}', attributes, excluded.attributes)""",
)
_SELECT = f"SELECT {_COLUMNS} FROM instances WHERE flow = ?"  # noqa: S608 -- our own names

# Fields of the start event never change: they are indexed when their instance is new. The keys of search attributes do
# change; each stands beside the fields under the attribute's name with a colon, which no field has.
_INDEX_NEW = """INSERT INTO attributes (name, value, number)
    SELECT a.key, a.value, i.number FROM instances AS i, json_each(i.attributes) AS a
    WHERE i.number > ? AND a.value IS NOT NULL"""

FEW = 1_000
"""Most rows with an attribute that are sorted; where there are more, the list is walked and each row is looked up."""
_FEW = f"SELECT 1 FROM attributes WHERE name = ? AND value = ? LIMIT {FEW + 1}"  # noqa: S608 -- our own number
_AMONG_FEW = "number IN (SELECT number FROM attributes WHERE name = ? AND value = ?)"
_AMONG_MANY = "EXISTS (SELECT 1 FROM attributes AS a WHERE a.name = ? AND a.value = ? AND a.number = instances.number)"

_KNOWN = "SELECT number, attributes FROM instances WHERE flow = ? AND key = ? AND run = ?"
_COUNT_OUTCOME = """INSERT INTO instance_counts VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET instances = instances + excluded.instances"""
_UNINDEX = "DELETE FROM attributes WHERE name = ? AND value = ? AND number = ?"
_INDEX = "INSERT OR IGNORE INTO attributes (name, value, number) VALUES (?, ?, ?)"

_attributes_of = msgspec.json.Decoder(dict[str, str | None]).decode


class SqliteReadModel:
    """`choreo.ports.read_model.ReadModel` in a file. Everything raises StorageError when the file cannot be used."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        records: Records,
        shown: Callable[[], Awaitable[None]],
        rewind: Callable[[str], None],
        folded: Callable[[str], dict[int, int]],
    ) -> None:
        """Connect the read model; `shown` returns when the rows just read are flushed to the disk."""
        self._database = database
        self._reader = Reader(database)
        self._writer = writer
        self._records = records
        self._shown = shown
        self._rewind = rewind
        self._folded = folded

    def write(self, views: Sequence[InstanceView]) -> None:
        """Write the views, inside a transaction."""
        if not views:
            return
        newest = self._database.query("SELECT coalesce(max(number), 0) FROM instances")[0][0]
        declared = {(view.flow, view.key, view.run): view for view in views if view.keys}
        known = {run: found for run in declared for found in self._database.query(_KNOWN, run)}
        _INSTANCES.write(self._database.connection, [_row(view) for view in views])
        self._database.connection.execute(_INDEX_NEW, (newest,))
        moved = Counter[tuple[str, str]]()
        for run, view in declared.items():
            number, before = known.get(run, (0, "{}"))
            attributes = _attributes_of(before)
            if number:
                self._move(number, attributes)
            if OUTCOME in view.keys:
                moved[run[0], attributes.get(_indexed(OUTCOME)) or ""] -= 1
                moved[run[0], escaped(view.keys[OUTCOME] or "")] += 1
        for (flow, outcome), by in moved.items():
            if outcome and by:
                self._database.connection.execute(_COUNT_OUTCOME, (flow, _indexed(OUTCOME) + outcome, by))

    def _move(self, number: int, before: Mapping[str, str | None]) -> None:
        """Move a run that was known to its new places in the index of search attributes."""
        ((now,),) = self._database.query("SELECT attributes FROM instances WHERE number = ?", (number,))
        after = _attributes_of(now)
        execute = self._database.connection.execute
        for name in {*before, *after}:
            old, new = before.get(name), after.get(name)
            if name.endswith(":") and old != new:
                execute(_UNINDEX, (name, old, number))
                if new is not None:
                    execute(_INDEX, (name, new, number))

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offsets up to which the views are true: the tracker's commit writes both at once."""
        return self._folded(topic)

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of instances; raises NotFoundError on a cursor that this read model did not issue."""
        conditions, values = self.conditions(wanted)
        sql = f"""SELECT number, {_COLUMNS} FROM instances
            WHERE (started_ms, number) < (?, ?) {"".join(f" AND {condition}" for condition in conditions)}
            ORDER BY started_ms DESC, number DESC LIMIT ?"""  # noqa: S608 -- our own words; values are bound
        rows = await self._ask_aside(sql, (*place_of(cursor), *values, limit + 1))
        page = [(number, _view(row)) for number, *row in rows[:limit]]
        more = len(rows) > limit and page
        return Page([view for _, view in page], cursor_after(page[-1][1].started_ms, page[-1][0]) if more else "")

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """Return one run; without `run` the newest of the key."""
        which = "AND run = ?" if run else "ORDER BY started_ms DESC, number DESC LIMIT 1"
        rows = await self._ask(f"{_SELECT} AND key = ? {which}", (flow, key, run) if run else (flow, key))
        return _view(rows[0]) if rows else None

    async def runs(self, flow: str, key: str, limit: int = RUNS_MAX) -> list[InstanceView]:
        """Return every run of a key, oldest first."""
        sql = f"{_SELECT} AND key = ? ORDER BY started_ms DESC, number DESC LIMIT ?"
        return [_view(row) for row in reversed(await self._ask(sql, (flow, key, limit)))]

    async def oldest(
        self, flow: str, place: str, limit: int, *, before_ms: int = LATEST_MS, partition: int = -1
    ) -> list[InstanceView]:
        """Return runs that stand there since before that moment, the longest first."""
        size = limit if partition < 0 else LOOKED_THROUGH
        sql = f"{_SELECT} AND place = ? AND place <> '' AND since_ms < ? ORDER BY since_ms LIMIT ?"
        found = map(_view, await self._ask_aside(sql, (flow, place, before_ms, size)))
        return [view for view in found if partition in (-1, view.partition)][:limit]

    async def due(self, flow: str, limit: int, cursor: str = "") -> Page:
        """Return a page of runs by their next due time; raises NotFoundError on an invalid cursor."""
        sql = f"""SELECT number, {_COLUMNS} FROM instances WHERE flow = ? AND due_ms > 0 AND (due_ms, number) > (?, ?)
            ORDER BY due_ms, number LIMIT ?"""  # noqa: S608 -- our own words; values are bound
        rows = await self._ask_aside(sql, (flow, *due_place_of(cursor), limit + 1))
        page = [(number, _view(row)) for number, *row in rows[:limit]]
        more = len(rows) > limit and page
        return Page([view for _, view in page], cursor_after(page[-1][1].due_ms, page[-1][0]) if more else "")

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """Return the key's records in log order."""
        records = self._records.of_key(flow, key, after, limit)
        if records:
            await self._shown()
        return records

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        return {name: number for name, number in await self._counted(flow) if ":" not in name}

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome."""
        mark = _indexed(OUTCOME)
        counted = await self._counted(flow)
        return {unescaped(name.removeprefix(mark)): number for name, number in counted if name.startswith(mark)}

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places."""
        counted = dict(await self._counted(flow))
        return {place: number for place in places if (number := counted.get(PLACES + place))}

    async def _counted(self, flow: str) -> list[tuple[str, int]]:
        """Return the counts of statuses, and behind marks with a colon, which no status has, of outcomes and places."""
        sql = "SELECT status, instances FROM instance_counts WHERE flow = ? AND instances > 0"
        return [(status, number) for status, number in await self._ask(sql, (flow,))]

    async def close(self) -> None:
        """Close the connection of the lists."""
        await self._reader.close()

    async def drop(self, topic: str) -> None:
        """Forget every view of the topic and set the tracker back to its beginning."""

        def job() -> None:
            run = self._database.connection.execute
            run("DELETE FROM attributes WHERE number IN (SELECT number FROM instances WHERE flow = ?)", (topic,))
            run("DELETE FROM instances WHERE flow = ?", (topic,))
            run("DELETE FROM instance_counts WHERE flow = ?", (topic,))
            self._rewind(topic)

        await self._writer.write(job)

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Return every view of the topic as values, by "key/run"."""
        views = map(_view, await self._ask(f"{_SELECT} ORDER BY key, run", (topic,)))
        return {f"{view.key}/{view.run}": as_values(view) for view in views}

    def conditions(self, wanted: Filter) -> tuple[list[str], list[Any]]:
        """Return the filter as conditions of SQL and the values of their parameters."""
        asked = (
            ("flow = ?", wanted.flow),
            ("status = ?", wanted.status),
            ("key = ?", wanted.key),
            ("started_ms >= ?", wanted.started_from_ms),
            ("started_ms < ?", wanted.started_before_ms),
        )
        conditions = [condition for condition, value in asked if value]
        values: list[Any] = [value for _, value in asked if value]
        for name, text in wanted.attributes.items():
            value = escaped(text)
            few = len(self._database.query(_FEW, (name, value))) <= FEW
            conditions.append(_AMONG_FEW if few else _AMONG_MANY)
            values += [name, value]
        for condition in wanted.conditions:
            sql, more = self._condition(condition)
            conditions.append(sql)
            values += more
        return conditions, values

    def _condition(self, condition: Condition) -> tuple[str, list[Any]]:
        """Return a comparison of a search attribute: by its index where few runs match, else by each row."""
        key, name = escaped(condition.key), _indexed(condition.name)
        compared: list[tuple[str, str]] = [(condition.operator, key)]
        if condition.operator == "^=":
            behind = after_prefix(key)
            compared = [(">=", key), *([("<", behind)] if behind else [])]
        keys = [text for _, text in compared]
        among = " AND ".join(f"value {operator} ?" for operator, _ in compared)
        range_ = f"FROM attributes WHERE name = ? AND {among}"
        if len(self._database.query(f"SELECT 1 {range_} LIMIT {FEW + 1}", (name, *keys))) <= FEW:
            return f"number IN (SELECT number {range_})", [name, *keys]
        value = "json_extract(attributes, ?)"
        path = f'$."{name}"'
        among = " AND ".join(f"{value} {operator} ?" for operator, _ in compared)
        return among, [part for text in keys for part in (path, text)]

    async def _ask_aside(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Run a query as `_ask` does, in a thread: a selective filter may read every row."""
        rows = await self._reader.query(sql, values)
        if rows:
            await self._shown()
        return rows

    async def _ask(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows once they are flushed; an empty result needs no flush."""
        rows = self._database.query(sql, values)
        if rows:
            await self._shown()
        return rows


def _row(view: InstanceView) -> tuple[Any, ...]:
    attributes: dict[str, str | None] = {name: escaped(value) for name, value in view.attributes.items()}
    attributes |= {_indexed(name): key and escaped(key) for name, key in view.keys.items()}
    return (
        view.flow,
        view.key,
        view.run,
        view.status,
        view.cause,
        view.started_ms,
        view.changed_ms,
        view.partition,
        view.position,
        _encode(attributes).decode(),
        view.detail,
        view.place,
        view.since_ms,
        view.due_ms,
    )


def _indexed(name: str) -> str:
    """Return the name of a search attribute's key."""
    return f"{name}:"


def _view(row: Sequence[Any]) -> InstanceView:
    found = {name: text and unescaped(text) for name, text in _attributes_of(row[9]).items()}
    attributes = {name: text for name, text in found.items() if not name.endswith(":")}
    keys = {name[:-1]: key for name, key in found.items() if name.endswith(":")}
    values: list[Any] = [*row[:9], attributes, row[10], keys, *row[11:]]
    return InstanceView(*values)
