"""Envelopes as MessagePack by field name: a field added later moves no other. Knows no key."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import msgspec

from choreo.core.errors import StorageError
from choreo.core.events import Envelope

_Named = msgspec.defstruct(
    "_Named",
    [
        (field.name, field.type) if field.default is msgspec.NODEFAULT else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Envelope)
    ],
    omit_defaults=True,
)
_values_of = attrgetter(*Envelope.__struct_fields__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Named]).decode  # type: ignore[valid-type]  # made from fields


def bytes_of(events: Iterable[Envelope]) -> bytes:
    """The events as one value."""
    return _encode([_Named(*_values_of(event)) for event in events])


def events_of(data: bytes, *, certain: bool) -> tuple[Envelope, ...]:
    """The events in a value, with the `certain` that was settled when it was written. Raises StorageError."""
    try:
        events = tuple(Envelope(*_values_of(named)) for named in _decode(data))
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"a recorded outcome cannot be read: {error}",
            where=f"inbox, value {data[:80]!r}",
            remedy="Another program has changed it: restore it, or delete its key.",
        ) from error
    return tuple(e if e.certain is certain else msgspec.structs.replace(e, certain=certain) for e in events)
