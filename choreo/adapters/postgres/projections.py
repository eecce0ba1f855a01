"""The projector's side of the read model in PostgreSQL: states, views, history and position change in one transaction.

The partition's position is locked first: the second of two projectors of one partition finds it moved, and writes
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from choreo.adapters.nul_free import escaped
from choreo.adapters.postgres.examination import Connection
from choreo.adapters.postgres.schema import id_of
from choreo.adapters.postgres.server import PostgresServer
from choreo.adapters.rows import attribute_index, bytes_of_fold, bytes_of_view, fold_of, row_id
from choreo.core.attributes import OUTCOME
from choreo.ports.projections import KeyFold, Projected
from choreo.ports.read_model import InstanceView

_NEW_FLOW = "INSERT INTO choreo.flows (flow) VALUES (%s) ON CONFLICT DO NOTHING"
# Shared by the projectors of a flow's partitions; a transaction that drops the views waits for them.
_NEW_POSITION = """INSERT INTO choreo.positions SELECT generation, %s, 0 FROM choreo.flows WHERE flow = %s FOR SHARE
    ON CONFLICT DO NOTHING"""
_LOCK_POSITION = """SELECT f.generation, p.position FROM choreo.flows AS f
    JOIN choreo.positions AS p ON p.generation = f.generation AND p.partition = %s
    WHERE f.flow = %s FOR UPDATE OF p"""
_KNOWN = """SELECT i.row, i.status, i.place FROM choreo.flows AS f
    JOIN choreo.instances AS i ON i.generation = f.generation AND i.row = ANY(%s) WHERE f.flow = %s"""
_SAVE_STATES = """INSERT INTO choreo.states SELECT %s, a.* FROM unnest(%s::text[], %s::bytea[]) AS a
    ON CONFLICT (generation, key) DO UPDATE SET value = excluded.value"""
_SAVE_VIEWS = """INSERT INTO choreo.instances
    SELECT %s, a.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bytea[], %s::text[],
        %s::bigint[], %s::bigint[]) AS a
    ON CONFLICT (generation, row) DO UPDATE SET status = excluded.status, view = excluded.view,
        place = excluded.place, since_ms = excluded.since_ms, due_ms = excluded.due_ms"""
_SAVE_ATTRIBUTES = """INSERT INTO choreo.attributes
    SELECT %s, a.* FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS a
    ON CONFLICT DO NOTHING"""
_SAVE_KEYS = """INSERT INTO choreo.attribute_keys AS k
    SELECT %s, a.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS a
    ON CONFLICT (generation, row, name) DO UPDATE SET key = excluded.key WHERE k.key <> excluded.key"""
_CLEAR_KEYS = """WITH g AS (SELECT %s::bigint AS generation), a AS (
        SELECT * FROM unnest(%s::text[], %s::text[]) AS a ("row", name))
    DELETE FROM choreo.attribute_keys AS k USING g, a
    WHERE k.generation = g.generation AND k.row = a."row" AND k.name = a.name"""
_OUTCOMES_OF = "SELECT key FROM choreo.attribute_keys WHERE generation = %s AND name = %s AND row = ANY(%s)"
OUTCOMES = "outcome:"
"""Before the name of an outcome among the counts of statuses, none of which has a colon."""
PLACES = "at:"
"""Before the name of a place among them."""
_SAVE_HISTORY = """INSERT INTO choreo.history SELECT %s, a.* FROM unnest(%s::text[], %s::bigint[]) AS a
    ON CONFLICT DO NOTHING"""
# Counted by partition, so that projectors of two partitions do not wait for each other.
_COUNT = """INSERT INTO choreo.counts AS c SELECT %s, %s, a.* FROM unnest(%s::text[], %s::bigint[]) AS a
    ON CONFLICT (generation, partition, status) DO UPDATE SET instances = c.instances + excluded.instances"""
_MOVE = "UPDATE choreo.positions SET position = %s WHERE generation = %s AND partition = %s"

POSITIONS = """SELECT p.partition, p.position FROM choreo.positions AS p
    JOIN choreo.flows AS f USING (generation) WHERE f.flow = %s AND p.position > 0"""
_LOAD = """SELECT s.key, s.value FROM choreo.states AS s JOIN choreo.flows AS f USING (generation)
    WHERE f.flow = %s AND s.key = ANY(%s)"""


class PostgresProjections:
    """`choreo.ports.projections.Projections` in PostgreSQL. Every method raises StorageError."""

    def __init__(self, server: PostgresServer) -> None:
        """Share the server with the read model."""
        self._server = server

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the next offset to fold, by partition."""
        return dict(await self._server.ask(POSITIONS, (topic,)))

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:  # noqa: ARG002 - a key has one
        """Return the saved folds of these keys."""
        if not keys:
            return {}
        by_id = {id_of(key): key for key in keys}
        rows = await self._server.ask(_LOAD, (topic, list(by_id)))
        return {by_id[key]: KeyFold(by_id[key], *fold_of(value)) for key, value in rows}

    async def save(self, batch: Projected) -> int:
        """Save the batch if it begins at the partition's position; return the position after it."""
        # The last view of a run counts: one statement may write a row only once.
        views = {id_of(row_id(view.key, view.run)): view for view in batch.views}

        async def job(connection: Connection) -> int:
            async with self._server.transaction(connection):
                await self._server.execute_in(connection, _NEW_FLOW, batch.topic)
                await self._server.execute_in(connection, _NEW_POSITION, batch.partition, batch.topic)
                locked = await self._server.execute_in(connection, _LOCK_POSITION, batch.partition, batch.topic)
                known = await self._server.execute_in(connection, _KNOWN, list(views), batch.topic)
                ((generation, stands),) = await locked.fetchall()
                if stands != batch.begins:
                    return int(stands)
                before = {row: (status, place) for row, status, place in await known.fetchall()}
                await self._write(connection, generation, batch, views, before)
                await self._server.execute_in(connection, _MOVE, batch.position, generation, batch.partition)
            return batch.position

        return await self._server.run(job)

    async def _write(
        self,
        connection: Connection,
        generation: int,
        batch: Projected,
        views: Mapping[str, InstanceView],
        known: Mapping[str, tuple[str, str]],
    ) -> None:
        """Write states, views and history.

        Fields of a view's start event are indexed when it is new; search attributes whenever they change.
        """
        states = {id_of(kept.key): bytes_of_fold(kept.state, kept.attributes) for kept in batch.keys}
        await self._batch(connection, _SAVE_STATES, states.items(), generation)
        rows = [
            (
                row,
                id_of(view.key),
                view.status,
                view.started_ms,
                bytes_of_view(view),
                escaped(view.place),
                view.since_ms,
                view.due_ms,
            )
            for row, view in views.items()
        ]
        await self._batch(connection, _SAVE_VIEWS, rows, generation)
        attributes = [
            (id_of(attribute_index(name, value)), view.started_ms, row)
            for row, view in views.items()
            if row not in known
            for name, value in view.attributes.items()
            if name not in view.keys
        ]
        await self._batch(connection, _SAVE_ATTRIBUTES, attributes, generation)
        moved = await self._moved_outcomes(connection, generation, views)
        await self._write_keys(connection, generation, views, known)
        offsets = [(id_of(key), offset) for key, offsets in batch.history.items() for offset in offsets]
        await self._batch(connection, _SAVE_HISTORY, offsets, generation)
        moved.update(name for view in views.values() for name in _counted_as(view.status, escaped(view.place)))
        moved.subtract(name for before in known.values() for name in _counted_as(*before))
        counts = sorted((status, by) for status, by in moved.items() if by)
        await self._batch(connection, _COUNT, counts, generation, batch.partition)

    async def _moved_outcomes(
        self, connection: Connection, generation: int, views: Mapping[str, InstanceView]
    ) -> Counter[str]:
        """Return by how much the number of runs changes for each outcome, behind a mark that no status has."""
        outcomes = {row: view.keys[OUTCOME] for row, view in views.items() if OUTCOME in view.keys}
        moved = Counter(OUTCOMES + escaped(outcome) for outcome in outcomes.values() if outcome is not None)
        if outcomes:
            before = await self._server.execute_in(connection, _OUTCOMES_OF, generation, OUTCOME, list(outcomes))
            moved.subtract(OUTCOMES + outcome for (outcome,) in await before.fetchall())
        return moved

    async def _write_keys(
        self, connection: Connection, generation: int, views: Mapping[str, InstanceView], known: Collection[str]
    ) -> None:
        """Write the search attributes of rows; delete those that a row has no longer."""
        keys = [(row, name, key) for row, view in views.items() for name, key in view.keys.items()]
        present = [(row, name, escaped(key)) for row, name, key in keys if key is not None]
        await self._batch(connection, _SAVE_KEYS, present, generation)
        absent = [(row, name) for row, name, key in keys if key is None and row in known]
        await self._batch(connection, _CLEAR_KEYS, absent, generation)

    async def _batch(self, connection: Connection, statement: str, rows: Any, *first: object) -> None:
        """Execute a statement that takes columns of rows, if there are any."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        if columns:
            await self._server.execute_in(connection, statement, *first, *columns)


def _counted_as(status: str, place: str) -> list[str]:
    """Return the names under which a run is counted."""
    return [status, PLACES + place] if place else [status]
