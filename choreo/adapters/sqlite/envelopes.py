"""Envelopes as JSON by field name, for the tables that keep them whole: a field added later moves no other.

Knows no table.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import msgspec

from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record

_Named = msgspec.defstruct(
    "_Named",
    [
        (field.name, field.type) if field.default is msgspec.NODEFAULT else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Envelope)
    ],
    omit_defaults=True,
)
_values_of = attrgetter(*Envelope.__struct_fields__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Named]).decode  # type: ignore[valid-type]  # made from fields


def text_of(events: Iterable[Envelope]) -> str:
    """The events as one JSON text; payloads are base64 in it."""
    return _encode([_Named(*_values_of(event)) for event in events]).decode()


def events_of(text: str) -> tuple[Envelope, ...]:
    """The events in a text; raises StorageError if it is none of ours."""
    try:
        return tuple(Envelope(*_values_of(named)) for named in _decode(text))
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"a kept event cannot be read: {error}",
            where=f"row {text[:80]!r}",
            remedy="Another program has changed it: restore it, or delete the row.",
        ) from error


def record_of(topic: str, partition: int, offset: int, stamp_ms: int, text: str) -> Record:
    """A record whose event is kept as a text of one."""
    (event,) = events_of(text)
    return Record(topic, partition, offset, stamp_ms, event)
