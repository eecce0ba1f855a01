"""The rows of attempts and their outcomes: load the rows of a batch, write the changed rows.

The log already holds an outcome that is published in the transaction that records it: its row contains only the places
of the events in the log. `inbox_rules` decides about the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from choreo.adapters.inbox_rules import Remembered, held
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.envelopes import events_of, text_of
from choreo.adapters.sqlite.records import Records
from choreo.core.events import Envelope, Record
from choreo.ports.inbox import AttemptLease, AttemptRequest

Key = tuple[str, str]
"""(trigger, step)."""

_COLUMNS = "service, trigger, step, run, slot, begun, holder, held_until_ms"
_FRESH = Bulk(f"attempts ({_COLUMNS})", "ON CONFLICT DO NOTHING")
_ATTEMPTS = Bulk(
    f"attempts ({_COLUMNS})",
    """ON CONFLICT (trigger, step, service) DO UPDATE SET slot = excluded.slot, begun = excluded.begun,
    holder = excluded.holder, held_until_ms = excluded.held_until_ms""",
)
_OUTCOMES = Bulk("outcomes (number, events)")
_LISTED = "(SELECT value FROM json_each(?))"
_LOAD = f"""SELECT trigger, step, number, run, slot, begun, events, holder, held_until_ms
    FROM attempts LEFT JOIN outcomes USING (number)
    WHERE service = ? AND trigger IN {_LISTED}"""  # noqa: S608 -- our own words
_SLOTS = f"""SELECT slot, step, trigger FROM attempts
    WHERE service = ? AND slot = run AND slot IN {_LISTED}"""  # noqa: S608 -- our own words


class Attempt(NamedTuple):
    """A row, and its number in the table."""

    number: int
    row: Remembered


class Attempts:
    """The attempts of one service. Every method except the reading ones runs inside a transaction."""

    def __init__(self, service: str, database: Database, records: Records) -> None:
        self._service = service
        self._database = database
        self._records = records

    def load(self, triggers: Iterable[str]) -> dict[Key, Attempt]:
        """Return the rows of these triggers, for every step."""
        rows = self._database.query(_LOAD, (self._service, listed(triggers)))
        return {
            (trigger, step): Attempt(
                number, Remembered(run, begun, slot if slot == run else "", self._events(events), holder, until_ms)
            )
            for trigger, step, number, run, slot, begun, events, holder, until_ms in rows
        }

    def slots(self, runs: Iterable[str]) -> dict[Key, str]:
        """Return the triggers that hold the slots of these runs: (run, step) → trigger."""
        rows = self._database.query(_SLOTS, (self._service, listed(runs)))
        return {(slot, step): trigger for slot, step, trigger in rows}

    def begin_fresh(
        self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None, now_ms: int
    ) -> dict[Key, Attempt] | None:
        """Write the attempts as the first of their triggers.

        Returns None and writes nothing if one of them is not the first. This saves two look-ups in the indexes for each
        attempt: almost every attempt is the first.
        """
        connection = self._database.connection
        holder, until_ms = held(lease, now_ms)
        rows = [(self._service, a.trigger, a.step, a.run, a.slot or a.trigger, 1, holder, until_ms) for a in attempts]
        connection.execute("SAVEPOINT fresh")
        changes = connection.total_changes
        _FRESH.write(connection, rows)
        fresh = connection.total_changes - changes == len(rows)
        if not fresh:
            connection.execute("ROLLBACK TO fresh")
        connection.execute("RELEASE fresh")
        if not fresh:
            return None
        first = self._last_number() - len(rows) + 1
        return {
            (a.trigger, a.step): Attempt(first + place, Remembered(a.run, 1, a.slot, None, holder, until_ms))
            for place, a in enumerate(attempts)
        }

    def save(self, rows: Mapping[Key, Remembered], keys: Iterable[Key]) -> None:
        """Write slot, count and lease of these rows."""
        written = [
            (self._service, *key, row.run, row.slot or key[0], row.begun, row.holder, row.held_until_ms)
            for key, row in ((key, rows[key]) for key in sorted(keys))
        ]
        _ATTEMPTS.write(self._database.connection, written)

    def save_outcomes(
        self,
        rows: Mapping[Key, Remembered],
        numbers: Mapping[Key, int],
        keys: Iterable[Key],
        published: Sequence[Record],
    ) -> None:
        """Write the outcomes of these rows, and insert the rows that have no number.

        `published`: the records of the outcomes that this transaction has published.
        """
        keys = sorted(keys)
        new = [key for key in keys if key not in numbers]
        if new:
            self.save(rows, new)
            first = self._last_number() - len(new) + 1
            numbers = {**numbers, **{key: first + place for place, key in enumerate(new)}}
        places = {id(record.event): str(self._records.place(record)) for record in published}
        texts = [(numbers[key], _text(rows[key].outcome or (), places)) for key in keys]
        _OUTCOMES.write(self._database.connection, texts)

    def _last_number(self) -> int:
        return int(self._database.query("SELECT last_insert_rowid()")[0][0])

    def _events(self, text: str | None) -> Sequence[Envelope] | None:
        if text is None or text.startswith("["):
            return None if text is None else events_of(text)
        return tuple(self._records.at(int(place)).event for place in text.split())


def listed(values: Iterable[str]) -> str:
    """Return the values as one JSON text, for `IN (SELECT value FROM json_each(?))`."""
    return msgspec.json.encode(sorted(set(values))).decode()


def _text(events: Sequence[Envelope], places: Mapping[int, str]) -> str:
    """Return the places of the events in the log if the log holds them, else the events themselves as text."""
    if events and id(events[0]) in places:
        return " ".join([places[id(event)] for event in events])
    return text_of(events)
