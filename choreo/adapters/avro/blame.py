"""Which field is at fault, found on the way of an error only, where time does not matter.

fastavro says what is wrong but not where; here the fields are tried one after the other.
"""

from __future__ import annotations

from io import BytesIO

import fastavro

from choreo.adapters.avro.event import Event
from choreo.adapters.avro.plain import conversions_of
from choreo.adapters.avro.schema import Schema, schema_from, schema_of
from choreo.core.errors import described


def field_that_cannot_be_written(event: Event, error: Exception) -> tuple[str, str]:
    """The first field whose value does not fit, and why; the whole event's error where no single field is at fault."""
    declaration = schema_of(type(event)).declaration
    conversions, values = conversions_of(type(event)), dict(event.__dict__)
    for end, field in enumerate(declaration["fields"], start=1):
        # The fields before it stay: one of them may define a type that this one names.
        name, parsed = field["name"], schema_from({**declaration, "fields": declaration["fields"][:end]}).parsed
        try:
            if name in conversions:
                values[name] = conversions[name](values[name])
            fastavro.schemaless_writer(BytesIO(), parsed, values)
        except Exception as found:  # noqa: BLE001 - every error means the same here, see AvroCodec.encode
            return name, told(found)
    return "*", told(error)


def told(error: Exception) -> str:
    """Return what an error says; where its own text says nothing, its class too."""
    return str(error) if type(error) in (ValueError, TypeError) and str(error) else described(error)


def field_that_cannot_be_read(writer: Schema, body: bytes) -> str:
    """The first field that the body ends or breaks in; empty where none does alone."""
    fields = writer.declaration["fields"]
    for end, field in enumerate(fields, start=1):
        parsed = schema_from({**writer.declaration, "fields": fields[:end]}).parsed
        try:
            fastavro.schemaless_reader(BytesIO(body), parsed, None)
        except Exception:  # noqa: BLE001 - every error means the same here, see AvroCodec.decode
            return str(field["name"])
    return ""
