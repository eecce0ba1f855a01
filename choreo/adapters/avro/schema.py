"""The Avro schema of an event class, parsed once, and the fingerprint that names it on the wire.

Knows schemas; knows no frozen files.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from choreo.event.declaration import declaration_of
from choreo.event.types import AvroType


class Schema(NamedTuple):
    """A schema ready for use."""

    declaration: dict[str, Any]
    """The schema as it is frozen in a file."""
    parsed: Any
    """The schema as fastavro uses it."""
    fingerprint: bytes
    """CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian, as single-object encoding has it."""


def schema_from(declaration: dict[str, Any]) -> Schema:
    """Make a schema ready for use; raises fastavro's SchemaParseException or UnknownType if it is no schema."""
    parsed = fastavro.parse_schema(declaration)
    # fastavro returns the bytes in the order of the wire. The canonical form leaves out logical types, so two schemas
    # that differ in a decimal's scale share a fingerprint: freezing refuses such a change.
    return Schema(declaration, parsed, bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")))


@cache
def schema_of(event_class: Any) -> Schema:
    """Return the schema of an event class; raises DeclarationError if it has none."""
    return schema_from(declaration_of(event_class, event_class.event_type))


def common_fields(reader: dict[str, Any], writer: dict[str, Any]) -> dict[str, Any]:
    """Return the reader's schema with only the fields that the writer's has too, under the writer's name.

    Every other field takes its default from the class: fastavro would fill in a default of Avro's JSON, in which a
    decimal is a text of bytes and a time a number. Each type is defined at its first use among the remaining fields.
    """
    written = {**_records(writer), reader["name"]: writer}
    cut = _Cut(definitions(reader), written).of(reader)
    return {**cast("dict[str, Any]", cut), "name": writer["name"]}


class _Cut:
    """Cuts every record to the fields of the writer's record of the same name, where there is one."""

    def __init__(self, defined: dict[str, AvroType], written: dict[str, dict[str, Any]]) -> None:
        self._defined = defined
        self._written = written
        self._reported: set[str] = set()

    def of(self, schema: AvroType) -> AvroType:
        """Return the cut schema, with each name defined at its first use."""
        if isinstance(schema, list):
            return [self.of(branch) for branch in schema]
        if isinstance(schema, str):
            schema = self._defined.get(schema, schema)
        if not isinstance(schema, dict):
            return schema
        if "name" in schema:
            if schema["name"] in self._reported:
                return schema["name"]
            self._reported.add(schema["name"])
        if schema["type"] == "record":
            names = {field["name"] for field in self._written.get(schema["name"], schema)["fields"]}
            kept = [field for field in schema["fields"] if field["name"] in names]
            # The default is the class's; Avro's own would be checked against the first branch of a union.
            fields = [{"name": field["name"], "type": self.of(field["type"])} for field in kept]
            return {"type": "record", "name": schema["name"], "fields": fields}
        return {key: self.of(value) if key in ("items", "values") else value for key, value in schema.items()}


def definitions(schema: AvroType) -> dict[str, AvroType]:
    """Return every record and enum in a schema by its name."""
    if isinstance(schema, list):
        return {name: found for branch in schema for name, found in definitions(branch).items()}
    if not isinstance(schema, dict):
        return {}
    own = {schema["name"]: schema} if "name" in schema else {}
    inner = [definitions(field["type"]) for field in schema.get("fields", ())]
    inner += [definitions(schema[part]) for part in ("items", "values") if part in schema]
    if isinstance(schema["type"], (dict, list)):
        inner.append(definitions(schema["type"]))
    return own | {name: found for each in inner for name, found in each.items()}


def _records(schema: AvroType) -> dict[str, dict[str, Any]]:
    return {name: found for name, found in definitions(schema).items() if found["type"] == "record"}
