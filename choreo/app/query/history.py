"""An instance's records as rows with their fields decoded, each attributed to its run.

Knows the log's records, the codec and which facts start and end a run; folds nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from choreo.app.query.flows import Flows
from choreo.core import facts
from choreo.core.access import actor_of
from choreo.core.admission import early_ms
from choreo.core.attribution import run_of
from choreo.core.errors import DecodeError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.ports.codec import Codec

PAGE = 1_000
"""Records read at once: an instance has tens of them, so that one page is the rule and memory stays bounded."""


class HistoryRow(msgspec.Struct, frozen=True):
    """One event of an instance. Times are epoch milliseconds; a field that the event does not have is empty or 0."""

    topic: str
    partition: int
    offset: int
    stamp_ms: int
    """Time at which the log took it: the time that rules."""
    id: str
    type: str
    run: str
    step: str
    causation: str
    trigger: str
    attempt: int
    version: int
    certain: bool
    entry: str
    round: int
    due_ms: int
    reason: str
    source: str
    time_ms: int
    """Time of the event according to its producer."""
    traceparent: str
    tracestate: str
    baggage: str
    fields: dict[str, Any]
    unreadable: str = ""
    """Why the fields could not be decoded."""
    duplicate: bool = False
    """A duplicate of an earlier row (same id and type); every reader drops it."""
    actor: str = ""
    """On an operator's fact: the name of its author; empty on others."""
    method: str = ""
    """How the name was established: `api-key`, `oidc`, `cli`, …"""


class _Run:
    """A run of the key, as far as its events were read."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.has_end = False
        self._read: set[tuple[str, str]] = set()

    def has_read(self, event: Envelope) -> bool:
        """Return whether an event that names no run was read as this one's."""
        return (event.id, event.type) in self._read

    def read(self, event: Envelope) -> None:
        """Take note of an event of this run."""
        self.has_end = self.has_end or event.type in facts.ENDS
        if not event.run:
            self._read.add((event.id, event.type))


class Attribution:
    """Which run each record of a key belongs to, read from headers in log order, as the tracker's fold has it."""

    def __init__(self, table: FlowTable) -> None:
        """Begin before the key's first record."""
        self._starts = table.flow.starts
        self._runs: list[_Run] = []
        self._known: set[str] = set()
        self._read: set[tuple[str, str]] = set()

    def run_of(self, record: Record) -> str:
        """Return the record's run; empty for one that belongs to none."""
        event = identified(record)
        if early_ms(record):
            return event.run
        if event.type == self._starts:
            if event.id not in self._known:
                self._runs.append(_Run(event.id))
                self._known.add(event.id)
            return event.id
        run = run_of(event, self._runs)
        if run is None:
            return event.run
        run.read(event)
        return run.id

    def duplicate(self, record: Record) -> bool:
        """Return whether its id and type were read before; call it once a record."""
        event = identified(record)
        known = (event.id, event.type) in self._read
        self._read.add((event.id, event.type))
        return known


class KeyRecords(Protocol):
    """The records of keys: of the read model, or of a recording."""

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1_000) -> list[Record]:
        """Return the key's records in log order, from after that offset."""
        ...


class Histories:
    """Reads the rows of instances."""

    def __init__(self, flows: Flows, records: KeyRecords, codec: Codec) -> None:
        """Take the parts; nothing is read yet."""
        self._flows = flows
        self._records = records
        self._codec = codec

    async def rows(
        self, flow: str, key: str, run: str = "", attribution: Attribution | None = None, after: int = -1
    ) -> AsyncIterator[HistoryRow]:
        """Yield the key's events in log order, of one run or of all; raises NotFoundError on an unknown flow.

        To go on later, give the same `attribution` and the offset of the last row.
        """
        table = self._flows.table(flow)
        attribution = attribution or Attribution(table)
        while True:
            page = await self._records.history(flow, key, after, PAGE)
            for record in page:
                belongs, duplicate = attribution.run_of(record), attribution.duplicate(record)
                if run in ("", belongs):
                    yield self._row(flow, record, belongs, duplicate=duplicate)
            if len(page) < PAGE:
                return
            after = page[-1].offset

    def _row(self, flow: str, record: Record, run: str, *, duplicate: bool) -> HistoryRow:
        event = identified(record)
        fields, unreadable = self._fields(flow, record)
        actor = actor_of(event.actor)
        return HistoryRow(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            stamp_ms=record.stamp_ms,
            id=event.id,
            type=event.type,
            run=run,
            step=event.step,
            causation=event.causation,
            trigger=event.trigger,
            attempt=event.attempt,
            version=event.version,
            certain=event.certain,
            entry=event.entry,
            round=event.round,
            due_ms=event.due_ms,
            reason=event.reason,
            source=event.source,
            time_ms=event.time_ms,
            traceparent=event.traceparent,
            tracestate=event.tracestate,
            baggage=event.baggage,
            actor=actor.name,
            method=actor.method,
            fields=fields,
            unreadable=unreadable,
            duplicate=duplicate,
        )

    def _fields(self, flow: str, record: Record) -> tuple[dict[str, Any], str]:
        """Return the payload's fields; an unreadable payload is shown with the reason, which people need here."""
        event = record.event
        if not event.data:
            return {}, ""
        own = event.type.startswith(facts.PREFIX)
        try:
            event_class = None if own else self._flows.event_class(flow, event.type)
            return self._codec.fields(event_class, event.content_type, event.data), ""
        except DecodeError as error:
            return {}, error.sentence
