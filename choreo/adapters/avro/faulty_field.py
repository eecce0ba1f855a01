"""Find the field at fault, only after an error, where time does not matter.

fastavro reports the error but not its field; here the fields are tried one after the other.
"""

from __future__ import annotations

from io import BytesIO

import fastavro

from choreo.adapters.avro.schema import Schema, schema_from, schema_of
from choreo.core.errors import described
from choreo.event.event import Event
from choreo.event.plain import conversions_of

TOO_LARGE = "the number is too large: an int has 64 bits with its sign, a float goes up to 1.8e308"


def field_that_cannot_be_written(event: Event, error: Exception) -> tuple[str, str]:
    """Return the first field whose value does not fit, and the reason.

    If no field alone fails, the reason is the whole event's error.
    """
    declaration = schema_of(type(event)).declaration
    conversions, values = conversions_of(type(event)), dict(event.__dict__)
    for end, field in enumerate(declaration["fields"], start=1):
        # The fields before it stay: one of them may define a type to which this one refers.
        name, parsed = field["name"], schema_from({**declaration, "fields": declaration["fields"][:end]}).parsed
        try:
            if name in conversions:
                values[name] = conversions[name](values[name])
            fastavro.schemaless_writer(BytesIO(), parsed, values)
        except Exception as found:  # noqa: BLE001 - every error means the same here, see AvroCodec.encode
            return name, message_of(found)
    return "*", message_of(error)


def message_of(error: Exception) -> str:
    """Return the message of an error; its class where the message is empty."""
    if isinstance(error, OverflowError):
        return TOO_LARGE
    return str(error) if type(error) in (ValueError, TypeError) and str(error) else described(error)


def field_that_cannot_be_read(writer: Schema, body: bytes) -> str:
    """Return the first field at which the body ends or breaks; empty where no single field does."""
    fields = writer.declaration["fields"]
    for end, field in enumerate(fields, start=1):
        parsed = schema_from({**writer.declaration, "fields": fields[:end]}).parsed
        try:
            fastavro.schemaless_reader(BytesIO(body), parsed, None)
        except Exception:  # noqa: BLE001 - every error means the same here, see AvroCodec.decode
            return str(field["name"])
    return ""
