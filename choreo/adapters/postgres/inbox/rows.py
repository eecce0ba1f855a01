"""The rows of one service's inbox: locked for a transaction, converted for the rules, and written back.

Locks are taken in the order of (step, trigger), so that two batches never wait for each other in a deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from choreo.adapters import inbox_rules
from choreo.adapters.nul_free import escaped
from choreo.adapters.packed_envelopes import bytes_of, events_of
from choreo.adapters.postgres.examination import Connection
from choreo.adapters.postgres.inbox import statements as sql
from choreo.adapters.postgres.schema import id_of
from choreo.adapters.postgres.server import PostgresServer
from choreo.ports.inbox import RunMark

Key = tuple[str, str]
"""(trigger, step), or (run, step) of a slot."""
Wanted = Mapping[Key, tuple[str, str, str]]
"""(trigger, step, run) by the tables' ids of (trigger, step)."""


class InboxRows:
    """The tables of attempts, outcomes and slots, inside a transaction of the caller."""

    def __init__(self, server: PostgresServer, service: str) -> None:
        """Use the rows of this service."""
        self._server = server
        self._service = service

    async def locked(self, connection: Connection, wanted: Wanted, ends_ms: int) -> Any:
        """Create the rows that are missing, and lock all; return the cursor of their values.

        `ends_ms`: when a row that belongs to no run expires.
        """
        order = sorted(wanted, key=lambda key: (key[1], key[0]))
        triggers, steps = [trigger for trigger, _ in order], [step for _, step in order]
        runs = [id_of(wanted[key][2]) for key in order]
        expire = [0 if run else ends_ms for run in runs]
        await self._server.execute_in(connection, sql.NEW_ROWS, self._service, steps, triggers, runs, expire)
        return await self._server.execute_in(connection, sql.LOCK_ROWS, self._service, steps, triggers)

    async def write_slots(self, connection: Connection, slots: Mapping[Key, str]) -> None:
        """Take the slots; raises UniqueViolation on a slot that another transaction took since they were read."""
        if slots:
            order = sorted((id_of(run), step, escaped(trigger)) for (run, step), trigger in slots.items())
            await self._server.execute_in(
                connection, sql.NEW_SLOTS, self._service, *map(list, zip(*order, strict=True))
            )

    async def write_attempts(
        self,
        connection: Connection,
        rows: Mapping[Key, inbox_rules.Remembered],
        changed: Collection[Key],
        tokens: Mapping[Key, str],
    ) -> None:
        """Write the count, the holder and the lease of each attempt."""
        values = [
            (key[1], id_of(key[0]), row.begun, tokens[key], row.holder, row.held_until_ms)
            for key, row in rows.items()
            if key in changed
        ]
        if values:
            await self._server.execute_in(connection, sql.BEGIN, self._service, *map(list, zip(*values, strict=True)))

    async def write_outcomes(
        self, connection: Connection, rows: Mapping[Key, inbox_rules.Remembered], changed: Iterable[Key]
    ) -> None:
        """Write outcomes, which end the leases."""
        values = []
        for key in changed:
            outcome = rows[key].outcome or ()
            values.append((key[1], id_of(key[0]), bytes_of(outcome), any(event.certain for event in outcome)))
        if values:
            await self._server.execute_in(connection, sql.RECORD, self._service, *map(list, zip(*values, strict=True)))


def ids_of(key: Key) -> Key:
    """Return the tables' ids of a key."""
    return id_of(key[0]), key[1]


def columns(keys: Iterable[Key]) -> tuple[list[str], list[str]]:
    """Return keys as the two arrays that statements take."""
    pairs = list(keys)
    return [id_of(first) for first, _ in pairs], [second for _, second in pairs]


def remembered(
    found: Iterable[Sequence[Any]], wanted: Wanted
) -> tuple[dict[Key, inbox_rules.Remembered], dict[Key, str]]:
    """Return the rows in the form of the rules, and the token of the last attempt of each."""
    rows: dict[Key, inbox_rules.Remembered] = {}
    tokens: dict[Key, str] = {}
    for step, trigger_id, begun, token, holder, until_ms, data, certain in found:
        trigger, _, run = wanted[trigger_id, step]
        outcome = None if data is None else events_of(data, certain=certain)
        rows[trigger, step] = inbox_rules.Remembered(run, begun, "", outcome, holder, until_ms)
        tokens[trigger, step] = token
    return rows, tokens


def mark_of(ended_ms: int, parts: Sequence[Any]) -> RunMark:
    """Return the mark in a row of runs."""
    compensating, paused, pause_n, stopped_at = parts
    return RunMark(compensating, ended_ms > 0, paused, pause_n, stopped_at)
