"""Envelopes as JSON by field name, for the tables that keep them whole: a field added later moves no other.

Knows no table.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from choreo.adapters.envelope_codec import NamedEnvelope, envelopes, named
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[NamedEnvelope]).decode


def text_of(events: Iterable[Envelope]) -> str:
    """Return the events as one JSON text, with base64 payloads."""
    return _encode(named(events)).decode()


def events_of(text: str) -> tuple[Envelope, ...]:
    """Return the events of a text; raises StorageError if choreo did not write the text."""
    try:
        return envelopes(_decode(text))
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"a kept event cannot be read: {error}",
            where=f"row {text[:80]!r}",
            remedy="Another program has changed it: restore it, or delete the row.",
        ) from error


def record_of(topic: str, partition: int, offset: int, stamp_ms: int, text: str) -> Record:
    """Return a record from the stored text of its one event."""
    (event,) = events_of(text)
    return Record(topic, partition, offset, stamp_ms, event)
