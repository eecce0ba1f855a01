"""Events as they stand in the log: by type their producers, versions and schemas, counted with the last moment.

Each process reads the log's records once, when it is asked, so that seeing costs nothing per event where events are
handled. Bounded: the newest records of a flow at first, then the new ones; few producers and schemas of each type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from choreo.core import facts
from choreo.core.events import Envelope, Position, Record
from choreo.ports.log import Log

LOOKED_BACK = 16_000
"""Records of a flow that are looked at when a process is first asked, the newest: some half a second."""
AT_ONCE = 2_000
TYPES_MAX = 2_000
PARTS_MAX = 50
"""Producers, versions or schemas of one type that are kept; further ones are counted together."""
OTHERS = "others"
_CONFLUENT_HEAD = 5
_MARK, _MARK_HEAD = b"\xc3\x01", 10
"""Avro's single-object encoding: two bytes, and the schema's fingerprint in eight."""


class Sighting(msgspec.Struct):
    """A producer, version or schema of a type, as it was seen."""

    name: str
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    sample: Envelope | None = None
    """Of a schema: the last event in it."""

    def add(self, stamp_ms: int) -> None:
        """Count an event."""
        self.count += 1
        self.first_ms = self.first_ms or stamp_ms
        self.last_ms = max(self.last_ms, stamp_ms)


class SeenType:
    """The sightings of one type."""

    def __init__(self) -> None:
        """Begin without any."""
        self.total: Sighting = Sighting("")
        self.position: Position | None = None
        self.producers: dict[str, Sighting] = {}
        self.versions: dict[str, Sighting] = {}
        self.schemas: dict[str, Sighting] = {}

    def add(self, record: Record) -> None:
        """Count a record."""
        event, stamp_ms = record.event, record.stamp_ms
        self.total.add(stamp_ms)
        self.position = record.position
        _of(self.producers, producer_of(event)).add(stamp_ms)
        _of(self.versions, str(event.version)).add(stamp_ms)
        schema = _of(self.schemas, encoding_of(event))
        schema.add(stamp_ms)
        schema.sample = event


def _of(known: dict[str, Sighting], name: str) -> Sighting:
    found = known.get(name)
    if found is None:
        name = name if len(known) < PARTS_MAX else OTHERS
        found = known.setdefault(name, Sighting(name))
    return found


def producer_of(event: Envelope) -> str:
    """Return the producer of an event: the step that made it, else its source."""
    return event.step or event.source or "unnamed"


def encoding_of(event: Envelope) -> str:
    """Return the name of the schema that a value was written with: its number, its fingerprint, or its content type."""
    data = event.data
    if len(data) >= _CONFLUENT_HEAD and data[0] == 0:
        return f"schema {int.from_bytes(data[1:_CONFLUENT_HEAD])}"
    if len(data) >= _MARK_HEAD and data.startswith(_MARK):
        return f"fingerprint {data[len(_MARK) : _MARK_HEAD].hex()}"
    return event.content_type or "no content type"


class Sightings:
    """The sightings of one flow's log in this process."""

    def __init__(self, flow: str, log: Log) -> None:
        """Begin without any."""
        self.types: dict[str, SeenType] = {}
        self.steps: dict[str, int] = {}
        """Step → the stamp of the last event that it made."""
        self.since_ms: int = 0
        """Stamp of the oldest record that was looked at."""
        self.records: int = 0
        self._flow = flow
        self._log = log
        self._read: dict[int, int] = {}
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Read the new records, each once: also where two callers ask at the same time."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        partitions = range(await self._log.partitions(self._flow))
        back = max(1, LOOKED_BACK // len(partitions))
        for number in partitions:
            end = await self._log.stable_end(self._flow, number)
            known = self._read.get(number)
            position = max(0, end - back) if known is None or known > end else known
            while position < end:
                records = await self._log.read(self._flow, number, position, min(AT_ONCE, end - position))
                if not records:
                    break
                self.add(records)
                position = records[-1].offset + 1
            self._read[number] = position

    def add(self, records: Iterable[Record]) -> None:
        """Count records; facts of choreo itself are no events of the flow."""
        for record in records:
            event = record.event
            self.records += 1
            self.since_ms = min(self.since_ms or record.stamp_ms, record.stamp_ms)
            if event.type.startswith(facts.PREFIX):
                continue
            if event.step:
                self.steps[event.step] = max(self.steps.get(event.step, 0), record.stamp_ms)
            seen = self.types.get(event.type)
            if seen is None:
                if len(self.types) >= TYPES_MAX:
                    continue
                seen = self.types[event.type] = SeenType()
            seen.add(record)
