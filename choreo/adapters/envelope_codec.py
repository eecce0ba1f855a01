"""Envelopes with their fields by name, for the stores that keep them whole: a field added later moves no other.

Knows no encoding and no store.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import msgspec

from choreo.core.events import Envelope

NamedEnvelope: Any = msgspec.defstruct(
    "NamedEnvelope",
    [
        (field.name, field.type) if field.default is msgspec.NODEFAULT else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Envelope)
    ],
    omit_defaults=True,
)
"""The encoded form: an envelope's fields without those that have their default."""
_values_of = attrgetter(*Envelope.__struct_fields__)


def named(events: Iterable[Envelope]) -> list[Any]:
    """Return the events in the form to encode."""
    return [NamedEnvelope(*_values_of(event)) for event in events]


def envelopes(decoded: Iterable[Any]) -> tuple[Envelope, ...]:
    """Return the events from their decoded form."""
    return tuple(Envelope(*_values_of(event)) for event in decoded)
