"""The read model in PostgreSQL. A listing walks the index of its filter and stops at the end of its page.

The database holds only the offsets of a key's records; the log holds the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choreo.adapters.cursors import as_values, not_a_cursor
from choreo.adapters.history import records_at
from choreo.adapters.nul_free import escaped, unescaped
from choreo.adapters.postgres.examination import Connection
from choreo.adapters.postgres.projections import OUTCOMES, PLACES, POSITIONS
from choreo.adapters.postgres.schema import KEY_CHARS, OF_GENERATION, id_of
from choreo.adapters.postgres.server import PostgresServer
from choreo.adapters.rows import (
    BEFORE_ALL,
    FIRST,
    Place,
    after_prefix,
    attribute_index,
    cursor_after,
    place_of,
    row_id,
    view_of,
)
from choreo.core.events import Record
from choreo.ports.log import Log
from choreo.ports.read_model import LATEST_MS, LOOKED_THROUGH, RUNS_MAX, Condition, Filter, InstanceView, Page

DELETED_AT_ONCE = 5_000
"""Rows of a dropped generation that one statement deletes: some 20 ms of the server's time."""

_FLOWS = "SELECT flow, generation FROM choreo.flows ORDER BY flow"
_OF_FLOW = "FROM choreo.instances AS i JOIN choreo.flows AS f USING (generation) WHERE f.flow = %s"
_RUNS = f"SELECT i.view {_OF_FLOW} AND i.key = %s ORDER BY i.started_ms DESC, i.row DESC LIMIT %s"
_RUN = f"SELECT i.view {_OF_FLOW} AND i.row = %s"
_NEWEST = f"SELECT i.view {_OF_FLOW} AND i.key = %s ORDER BY i.started_ms DESC, i.row DESC LIMIT 1"
_ALL = f"SELECT i.view {_OF_FLOW} ORDER BY i.row"
_HISTORY = """SELECT h.position FROM choreo.history AS h JOIN choreo.flows AS f USING (generation)
    WHERE f.flow = %s AND h.key = %s AND h.position > %s ORDER BY h.position LIMIT %s"""
_COUNTS = """SELECT c.status, sum(c.instances)::bigint FROM choreo.counts AS c JOIN choreo.flows AS f USING (generation)
    WHERE f.flow = %s GROUP BY c.status HAVING sum(c.instances) > 0"""
_OLDEST = f"""SELECT i.view {_OF_FLOW} AND i.place = %s AND i.place <> '' AND i.since_ms < %s
    ORDER BY i.since_ms LIMIT %s"""
_DUE = f"""SELECT i.row, i.view {_OF_FLOW} AND i.due_ms > 0 AND (i.due_ms, i.row) > (%s, %s)
    ORDER BY i.due_ms, i.row LIMIT %s"""
_LIST = "SELECT i.row, i.view FROM choreo.instances AS i WHERE i.generation = %s"
_WITH_ATTRIBUTE = """SELECT i.row, i.view FROM choreo.attributes AS a
    JOIN choreo.instances AS i ON i.generation = a.generation AND i.row = a.row WHERE a.generation = %s"""
_HAS_ATTRIBUTE = """EXISTS (SELECT 1 FROM choreo.attributes AS o
    WHERE o.generation = i.generation AND o.attribute = %s AND o.started_ms = i.started_ms AND o.row = i.row)"""
_MEETS = """EXISTS (SELECT 1 FROM choreo.attribute_keys AS k
    WHERE k.generation = i.generation AND k.row = i.row AND k.name = %s AND {compared})"""

_NOTE_DROPPED = "INSERT INTO choreo.dropped SELECT generation FROM choreo.flows WHERE flow = %s FOR UPDATE"
_DROP = "UPDATE choreo.flows SET generation = nextval('choreo.generations') WHERE flow = %s"
_DROPPED = "SELECT generation FROM choreo.dropped"
_SWEPT = "DELETE FROM choreo.dropped WHERE generation = %s"


class PostgresReadModel:
    """`choreo.ports.read_model.ReadModel` in PostgreSQL. Every method raises StorageError."""

    def __init__(self, server: PostgresServer, log: Log) -> None:
        """Read the records of histories from `log`."""
        self._server = server
        self._log = log

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offsets up to which the views are true, by partition."""
        return dict(await self._server.ask(POSITIONS, (topic,)))

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of instances; raises NotFoundError on a cursor that this read model did not issue."""
        before = _place(cursor)

        async def job(connection: Connection) -> list[tuple[Place, InstanceView]]:
            found: list[tuple[Place, InstanceView]] = []
            flows = await (await connection.execute(self._server.sql(_FLOWS))).fetchall()
            for flow, generation in flows:
                if wanted.flow in ("", flow):
                    statement, values = _listing(generation, flow, wanted, before, limit + 1)
                    rows = await connection.execute(self._server.sql(statement), values, prepare=False)
                    for row, data in await rows.fetchall():
                        view = view_of(data)
                        found.append((Place(view.started_ms, row.encode(), flow.encode()), view))
            return found

        found = sorted(await self._server.run(job), key=lambda item: item[0], reverse=True)
        page = found[:limit]
        more = len(found) > len(page) and page
        return Page([view for _, view in page], cursor_after(page[-1][0]) if more else "")

    async def instance(self, flow: str, key: str, run: str = "") -> InstanceView | None:
        """Return one run; without `run` the newest of the key."""
        rows = await self._server.ask(_RUN if run else _NEWEST, (flow, id_of(row_id(key, run)) if run else id_of(key)))
        return view_of(rows[0][0]) if rows else None

    async def runs(self, flow: str, key: str, limit: int = RUNS_MAX) -> list[InstanceView]:
        """Return every run of a key, oldest first."""
        rows = await self._server.ask(_RUNS, (flow, id_of(key), limit))
        return [view_of(data) for (data,) in reversed(rows)]

    async def oldest(
        self, flow: str, place: str, limit: int, *, before_ms: int = LATEST_MS, partition: int = -1
    ) -> list[InstanceView]:
        """Return runs that stand there since before that moment, the longest first."""
        size = limit if partition < 0 else LOOKED_THROUGH
        rows = await self._server.ask(_OLDEST, (flow, escaped(place), before_ms, size))
        return [view for (data,) in rows if partition in (-1, (view := view_of(data)).partition)][:limit]

    async def due(self, flow: str, limit: int, cursor: str = "") -> Page:
        """Return a page of runs by their next due time; raises NotFoundError on an invalid cursor."""
        after = _place(cursor) if cursor else BEFORE_ALL
        rows = await self._server.ask(_DUE, (flow, after.started_ms, after.row.decode(), limit + 1))
        page = [(row, view_of(data)) for row, data in rows[:limit]]
        if len(rows) <= limit or not page:
            return Page([view for _, view in page], "")
        row, last = page[-1]
        return Page([view for _, view in page], cursor_after(Place(last.due_ms, row.encode(), flow.encode())))

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1000) -> list[Record]:
        """Return the key's records in log order."""
        rows = await self._server.ask(_HISTORY, (flow, id_of(key), after, limit))
        return await records_at(self._log, flow, key, [offset for (offset,) in rows])

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        return {name: number for name, number in await self._counted(flow) if ":" not in name}

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome."""
        counted = await self._counted(flow)
        return {unescaped(name.removeprefix(OUTCOMES)): n for name, n in counted if name.startswith(OUTCOMES)}

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places."""
        counted = dict(await self._counted(flow))
        return {place: number for place in places if (number := counted.get(PLACES + escaped(place)))}

    async def _counted(self, flow: str) -> list[tuple[str, int]]:
        return [(name, number) for name, number in await self._server.ask(_COUNTS, (flow,))]

    async def drop(self, topic: str) -> None:
        """Forget the topic's views, states and positions: projectors fold it again from its beginning."""

        async def job(connection: Connection) -> None:
            async with self._server.transaction(connection):
                await self._server.execute_in(connection, _NOTE_DROPPED, topic)
                await self._server.execute_in(connection, _DROP, topic)

        await self._server.run(job)
        for (generation,) in await self._server.ask(_DROPPED):
            for table in OF_GENERATION:
                while await self._delete(table, generation) == DELETED_AT_ONCE:
                    pass
            await self._server.execute(_SWEPT, (generation,))

    async def digest(self, topic: str) -> Mapping[str, Any]:
        """Return every view of the topic as values, by "key/run"."""
        views = [view_of(data) for (data,) in await self._server.ask(_ALL, (topic,))]
        return dict(sorted((f"{view.key}/{view.run}", as_values(view)) for view in views))

    async def _delete(self, table: str, generation: int) -> int:
        """Delete a piece of a dropped generation; return the number of deleted rows."""
        piece = f"SELECT ctid FROM choreo.{table} WHERE generation = %s LIMIT {DELETED_AT_ONCE}"  # noqa: S608 - our own names
        return await self._server.execute(
            f"DELETE FROM choreo.{table} WHERE ctid = ANY(ARRAY({piece}))",  # noqa: S608 - as above
            (generation,),
        )


def _place(cursor: str) -> Place:
    """Return the place at which the page before ended, as values for a statement; raises NotFoundError."""
    place = place_of(cursor)
    try:
        row = place.row.decode()
    except UnicodeDecodeError as error:
        raise not_a_cursor(cursor) from error
    if "\0" in row or not -FIRST.started_ms <= place.started_ms <= FIRST.started_ms:
        raise not_a_cursor(cursor)
    return place


def _listing(generation: int, flow: str, wanted: Filter, before: Place, limit: int) -> tuple[str, Sequence[Any]]:
    """Return the statement that lists a flow's rows behind a place, and its values.

    It walks the rows with one of the attributes where any is wanted, else those of a status, a key, or all.
    """
    attributes = [id_of(attribute_index(name, value)) for name, value in wanted.attributes.items()]
    walked = "a" if attributes else "i"
    behind = "<=" if flow.encode() < before.flow else "<"
    asked = [
        (f"({walked}.started_ms, {walked}.row) {behind} (%s, %s)", (before.started_ms, before.row.decode())),
        ("i.status = %s", (escaped(wanted.status),) if wanted.status else ()),
        ("i.key = %s", (id_of(wanted.key),) if wanted.key else ()),
        (f"{walked}.started_ms >= %s", (wanted.started_from_ms,) if wanted.started_from_ms else ()),
        (f"{walked}.started_ms < %s", (wanted.started_before_ms,) if wanted.started_before_ms else ()),
        ("a.attribute = %s", attributes[:1]),
        *((_HAS_ATTRIBUTE, (attribute,)) for attribute in attributes[1:]),
        *map(_meets, wanted.conditions),
    ]
    conditions = "".join(f" AND {condition}" for condition, values in asked if values)
    order = f" ORDER BY {walked}.started_ms DESC, {walked}.row DESC LIMIT %s"
    values = [generation, *(value for _, values in asked for value in values), limit]
    return (_WITH_ATTRIBUTE if attributes else _LIST) + conditions + order, values


def _meets(condition: Condition) -> tuple[str, tuple[str, ...]]:
    """Return the comparison of a search attribute and its values: first by the index's part of the key."""
    key = escaped(condition.key)
    begin = key[:KEY_CHARS]
    indexed = f"left(k.key, {KEY_CHARS})"
    compared: list[tuple[str, str]] = []
    if condition.operator == "^=":
        behind = after_prefix(begin)
        compared = [(f"{indexed} >= %s", begin), *([(f"{indexed} < %s", behind)] if behind else [])]
        compared.append(("starts_with(k.key, %s)", key))
    else:
        loosely = {"<": "<=", ">": ">="}.get(condition.operator, condition.operator)
        compared = [(f"{indexed} {loosely} %s", begin), (f"k.key {condition.operator} %s", key)]
    sql = " AND ".join(part for part, _ in compared)
    return _MEETS.format(compared=sql), (condition.name, *(value for _, value in compared))
