"""Envelopes as MessagePack by field name: a field added later moves no other. Knows no store."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from choreo.adapters.envelope_codec import NamedEnvelope, envelopes, named
from choreo.core.errors import StorageError
from choreo.core.events import Envelope

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[NamedEnvelope]).decode


def bytes_of(events: Iterable[Envelope]) -> bytes:
    """Return the events as one value."""
    return _encode(named(events))


def events_of(data: bytes, *, certain: bool) -> tuple[Envelope, ...]:
    """Return the events in a value, each with this `certain`. Raises StorageError."""
    try:
        events = envelopes(_decode(data))
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"a recorded outcome cannot be read: {error}",
            where=f"inbox, value {data[:80]!r}",
            remedy="Another program has changed it: restore it, or delete its row or key.",
        ) from error
    return tuple(e if e.certain is certain else msgspec.structs.replace(e, certain=certain) for e in events)
