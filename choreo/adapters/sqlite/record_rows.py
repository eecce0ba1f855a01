"""Convert records to rows and back. The columns for an auditor are plain; the rest of the envelope is one JSON text.

`records_of` returns a record for every row: an unreadable row becomes `choreo.Unreadable`.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from choreo.core.events import Envelope, Record
from choreo.core.facts import UNREADABLE

COLUMNS = "place, stamp_ms, id, type, key, run, step, causation, entry, certain, headers, data"
_NAMES = COLUMNS.split(", ")


_PLAIN = ("id", "type", "key", "run", "step", "causation", "entry", "certain")
"""Envelope fields that are columns, in the order of COLUMNS; `headers` and `data` follow."""

_REST = [field for field in msgspec.structs.fields(Envelope) if field.name not in (*_PLAIN, "flow", "data")]
# The first one is the flow, which is left out where it is the topic's name.
_Headers = msgspec.defstruct(
    "_Headers",
    [("flow", str, ""), *((field.name, field.type, field.default) for field in _REST)],
    omit_defaults=True,
)

_PLACE = Envelope.__struct_fields__.index
_plain_of = itemgetter(*map(_PLACE, _PLAIN))
_rest_of = itemgetter(*map(_PLACE, _Headers.__struct_fields__))
_NO_HEADERS = astuple(_Headers())

# Fields are accessed by index, which costs 0.4 µs an event; by name it costs 2 µs. The indexes are those of Envelope.
_READ = (*_PLAIN, "data", "flow", *(field.name for field in _REST))
_in_order = itemgetter(*(_READ.index(name) for name in Envelope.__struct_fields__))

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Headers).decode


def row_of(place: int, record: Record) -> tuple[Any, ...]:
    """Return the record's row, in the order of COLUMNS."""
    event = record.event
    values = astuple(event)
    flow, *rest = _rest_of(values)
    headers = _Headers("" if flow == record.topic else flow, *rest)
    return (place, record.stamp_ms, *_plain_of(values), _encode(headers).decode(), event.data)


def records_of(rows: Iterable[tuple[Any, ...]], topic: str, partition: int, base: int) -> list[Record]:
    """Return the records of the rows; `base` is the place of the partition's offset 0."""
    records = []
    local = (topic, *_NO_HEADERS[1:])
    for row in rows:
        headers = row[-2]
        rest = local
        if headers != "{}":
            try:
                rest = astuple(_decode(headers))
            except (msgspec.MsgspecError, UnicodeError) as error:
                records.append(_unreadable(row, f"headers: {error}", topic, partition, base))
                continue
            if not rest[0]:
                rest = (topic, *rest[1:])
        event = Envelope(*_in_order((*row[2:9], row[9] == 1, row[-1], *rest)))
        records.append(Record(topic, partition, row[0] - base, row[1], event))
    return records


def records_of_bytes(rows: Iterable[tuple[Any, ...]], topic: str, partition: int, base: int) -> list[Record]:
    """Return records as `records_of` does, from rows with texts as bytes because one of them is not UTF-8."""
    records = []
    for row in rows:
        texts = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in row[:-1]]
        broken = [
            name
            for name, text, value in zip(_NAMES, texts, row, strict=False)
            if isinstance(value, bytes) and text.encode() != value
        ]
        mended = (*texts, row[-1])
        if broken:
            why = f"column {', '.join(broken)} is not UTF-8"
            records.append(_unreadable(mended, why, topic, partition, base))
        else:
            records += records_of([mended], topic, partition, base)
    return records


def _unreadable(row: tuple[Any, ...], why: str, topic: str, partition: int, base: int) -> Record:
    place, stamp_ms, id_, type_, key = row[:5]
    event = Envelope(
        id_, UNREADABLE, key, topic, reason=f"a record of type {type_!r} cannot be read: {why}", data=row[-1]
    )
    return Record(topic, partition, place - base, stamp_ms, event)
