"""The Avro schema of an event class, derived once, and the fingerprint that names it on the wire.

Knows classes and schemas; not what is frozen, and no bytes.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from choreo.adapters.avro.event import Event
from choreo.adapters.avro.types import Place
from choreo.core.errors import DeclarationError

AvroType: TypeAlias = Any
"""A schema as JSON holds it: a name, a union (list), or a mapping with a `type`."""

# What Avro itself gives a meaning, by type; dataclasses-avroschema adds names of its own that mean nothing to others.
_KEPT = {
    "record": ("type", "name", "doc", "fields"),
    "enum": ("type", "name", "symbols"),
    "array": ("type", "items"),
    "map": ("type", "values"),
}
_LOGICAL = ("type", "logicalType", "precision", "scale")
_deriving = Lock()  # dataclasses-avroschema keeps its place in the classes themselves


class Schema(NamedTuple):
    """A schema ready for use."""

    declaration: dict[str, Any]
    """As it is frozen in a file."""
    parsed: Any
    """As fastavro works with it."""
    fingerprint: bytes
    """CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian, as single-object encoding has it."""


def schema_from(declaration: dict[str, Any]) -> Schema:
    """Make a schema ready for use; raises fastavro's SchemaParseException or UnknownType where it is none."""
    parsed = fastavro.parse_schema(declaration)
    # fastavro gives the bytes in the order they have on the wire. The canonical form leaves out logical types, so two
    # schemas that differ in a decimal's scale share a fingerprint: freezing refuses such a change.
    return Schema(declaration, parsed, bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")))


@cache
def schema_of(event_class: type[Event]) -> Schema:
    """The schema of an event class; raises DeclarationError where it has none, such as a part that holds itself."""
    try:
        with _deriving:
            derived = event_class.avro_schema_to_python()
    except ValueError as error:
        raise DeclarationError(
            f"no Avro schema can be derived: {error}",
            where=event_class.__name__,
            remedy="Give each default a value of its field's type.",
        ) from error
    return schema_from(_Words(event_class.__name__).of(derived))


def _default(field: dict[str, Any]) -> Any:
    """A field's default as Avro's JSON has it; a decimal's bytes come as the text of an escape, not as characters."""
    kind = field["type"]
    if isinstance(kind, dict) and kind.get("logicalType") == "decimal":
        return field["default"].encode("ascii").decode("unicode_escape")
    return field["default"]


class _Words:
    """Rewrites a derived schema into what the Avro specification names, in its order."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._seen: dict[str, AvroType] = {}
        self._open: list[str] = []

    def of(self, schema: AvroType) -> AvroType:
        """The schema so rewritten; raises DeclarationError on two types of one name and on a part that holds itself."""
        if isinstance(schema, str):
            if schema in self._open:
                raise Place(self._owner, schema).refuse("this part holds itself", "Refer to the inner one by an id")
            return schema
        if isinstance(schema, list):
            return [self.of(branch) for branch in schema]
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self.of(kind)
        kept = {name: schema[name] for name in _KEPT.get(kind, _LOGICAL) if name in schema}
        if "name" in kept and self._seen.setdefault(kept["name"], schema) is not schema:
            raise Place(self._owner, kept["name"]).refuse(
                "two types of this event have this name", "Rename one of them"
            )
        if kind == "record":
            self._open.append(kept["name"])
            kept["fields"] = [self._field(field) for field in schema["fields"]]
            self._open.pop()
        for inner in ("items", "values"):
            if inner in kept:
                kept[inner] = self.of(kept[inner])
        return kept if len(kept) > 1 else kind

    def _field(self, field: dict[str, Any]) -> dict[str, Any]:
        kept = {"name": field["name"], "type": self.of(field["type"])}
        if "default" in field:
            kept["default"] = _default(field)
        if "doc" in field:
            kept["doc"] = field["doc"]
        return kept


def common_fields(reader: dict[str, Any], writer: dict[str, Any]) -> dict[str, Any]:
    """The reader's schema with only the fields the writer's has too.

    What is left out takes its default from the class: fastavro would fill in a default of Avro's JSON, in which a
    decimal is a text of bytes and a moment a number.
    """
    return cast("dict[str, Any]", _cut(reader, _records(writer)))


def _cut(schema: AvroType, written: dict[str, dict[str, Any]]) -> AvroType:
    """The schema with every record cut to the fields its namesake has, where there is one."""
    if isinstance(schema, list):
        return [_cut(branch, written) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema["type"] == "record":
        namesake = written.get(schema["name"])
        names = {field["name"] for field in (namesake or schema)["fields"]}
        fields = [
            {**field, "type": _cut(field["type"], written)} for field in schema["fields"] if field["name"] in names
        ]
        return {**schema, "fields": fields}
    return {key: _cut(value, written) if key in ("items", "values") else value for key, value in schema.items()}


def _records(schema: AvroType) -> dict[str, dict[str, Any]]:
    """Every record in a schema by its name."""
    if isinstance(schema, list):
        return {name: record for branch in schema for name, record in _records(branch).items()}
    if not isinstance(schema, dict):
        return {}
    if schema["type"] == "record":
        inner = [_records(field["type"]) for field in schema["fields"]]
        return {schema["name"]: schema} | {name: record for records in inner for name, record in records.items()}
    return _records(schema.get("items", schema.get("values")))
