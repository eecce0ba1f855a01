"""Event objects to bytes and back: Avro single-object encoding, and JSON on input.

A value is `C3 01`, the 8-byte fingerprint of the schema it was written with, and the Avro body. It is read with the
writer's schema, of which every frozen version is known, cut to the fields the reader's class has; what the writer did
not know yet takes the class's default. Knows nothing of headers or logs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, cast

import fastavro
from pydantic import ValidationError
from pydantic_core import from_json, to_jsonable_python

from choreo.adapters.avro.blame import field_that_cannot_be_read, field_that_cannot_be_written, told
from choreo.adapters.avro.event import Event
from choreo.adapters.avro.exact_json import exact
from choreo.adapters.avro.frozen import versions_by_fingerprint
from choreo.adapters.avro.plain import Plain, plain_of
from choreo.adapters.avro.schema import Schema, common_fields, definitions, schema_from, schema_of
from choreo.adapters.avro.tracker_json import made_by_tracker
from choreo.core.errors import DecodeError, SchemaError, described
from choreo.core.events import TRACKER_JSON

E = TypeVar("E")

AVRO = "application/avro"
JSON = "application/json"

MARK = b"\xc3\x01"
HEADER_BYTES = len(MARK) + 8

_Read = Callable[[BytesIO], Any]
_write = fastavro.schemaless_writer
_read = fastavro.schemaless_reader


class AvroCodec:
    """The Codec of choreo. One object serves a process; it keeps a compiled path per class and writer's schema."""

    content_type = AVRO

    def __init__(self, folder: Path | None = None) -> None:
        """Know the frozen versions in this folder besides the classes' own; raises SchemaError on a damaged file."""
        self._versions: dict[bytes, Schema] = versions_by_fingerprint(folder) if folder else {}
        self._writers: dict[type[Event], tuple[bytes, Any, Plain]] = {}
        self._readers: dict[tuple[type[Event] | None, bytes], _Read] = {}

    def encode(self, event: Any) -> bytes:
        """The event as Avro single-object bytes; raises SchemaError naming the field that does not fit."""
        event_class = type(event)
        prefix, parsed, plain = self._writers.get(event_class) or self._writer(event_class)
        buffer = BytesIO()
        buffer.write(prefix)
        try:
            _write(buffer, parsed, plain(event))
        except Exception:  # noqa: BLE001 - which field is at fault, and why, is found where it is written once more
            return prefix + _body(event)
        return buffer.getvalue()

    def decode(self, event_class: type[E], content_type: str, data: bytes) -> E:
        """The event in a value, validated as if it had been made here; raises DecodeError naming the field."""
        class_ = cast("type[Event]", event_class)
        try:
            if _is_avro(content_type, data):
                return cast("E", class_.__pydantic_validator__.validate_python(self._values(class_, data)))
            if content_type == TRACKER_JSON:
                return cast("E", made_by_tracker(class_, data))
            return cast("E", _fitting(class_.__pydantic_validator__.validate_json(exact(class_, data), strict=True)))
        except ValidationError as error:
            raise _refused(class_, error) from error
        except DecodeError:
            raise
        # A validator of the user's may raise anything, also what no handler of errors expects (SystemExit).
        except BaseException as error:
            raise _failed_in(class_, error) from error

    def fields(self, event_class: type[Any] | None, content_type: str, data: bytes) -> dict[str, Any]:
        """The event's fields as JSON-ready values; without a class as the writer's schema has them."""
        if event_class is not None:
            event = self.decode(event_class, content_type, data)
            if not _is_avro(content_type, data) and content_type != TRACKER_JSON:
                schema = schema_of(
                    cast("Any", event_class)
                )  # as it is shown once it was written: 1.5 with all its places
                values = _read(BytesIO(_body(event)), schema.parsed, None)
                event = event_class.__pydantic_validator__.validate_python(values)
            try:
                return cast("dict[str, Any]", event.model_dump(mode="json", warnings="none"))
            except BaseException as error:  # a serializer of the user's, as in decode
                raise _failed_in(event_class, error) from error
        return _json_ready(self._values(None, data) if _is_avro(content_type, data) else data)

    def _writer(self, event_class: type[Event]) -> tuple[bytes, Any, Plain]:
        """Compile the way out of this class."""
        if not issubclass(event_class, Event):
            raise SchemaError(
                "is not an event", where=event_class.__name__, remedy="Return an object of a class declared with Event."
            )
        schema = schema_of(event_class)
        path = (MARK + schema.fingerprint, schema.parsed, plain_of(event_class))
        self._writers[event_class] = path
        return path

    def _values(self, event_class: type[Event] | None, data: bytes) -> dict[str, Any]:
        """The plain values in an Avro value, cut to the fields this class has."""
        read = self._readers.get((event_class, data[:HEADER_BYTES])) or self._reader(event_class, data)
        body = BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            values = read(body)
        # A damaged body shows itself as almost any error: a length beyond the end, a bad text, a year 52000.
        except Exception as error:
            field = field_that_cannot_be_read(
                self._version(event_class, data[len(MARK) : HEADER_BYTES]), data[HEADER_BYTES:]
            )
            raise _damaged(event_class, f"cannot be read: {told(error)}", field) from error
        if body.tell() != len(data):
            raise _damaged(event_class, f"has {len(data) - body.tell()} bytes more than its schema describes")
        return cast("dict[str, Any]", values)

    def _reader(self, event_class: type[Event] | None, data: bytes) -> _Read:
        """Compile the way from one writer's schema into this class."""
        if len(data) < HEADER_BYTES or not data.startswith(MARK):
            raise DecodeError(
                f"is not Avro single-object encoding: {len(data)} bytes that begin with {data[:2].hex() or 'nothing'}",
                where=_named(event_class),
                remedy=f"Write C3 01, the schema's fingerprint and the body, or JSON with content type {JSON}.",
            )
        fingerprint = data[len(MARK) : HEADER_BYTES]
        writer = self._version(event_class, fingerprint)
        target = None
        if event_class is not None and schema_of(event_class).fingerprint != fingerprint:
            if not _same_name(event_class, writer.declaration["name"]):
                raise _damaged(event_class, f"was written as {writer.declaration['name']}")
            target = schema_from(common_fields(schema_of(event_class).declaration, writer.declaration)).parsed
        self._readers[event_class, data[:HEADER_BYTES]] = path = _reading(writer.parsed, target)
        return path

    def _version(self, event_class: type[Event] | None, fingerprint: bytes) -> Schema:
        """The writer's schema of this fingerprint."""
        if event_class is not None and schema_of(event_class).fingerprint == fingerprint:
            return schema_of(event_class)
        if fingerprint not in self._versions:
            raise DecodeError(
                f"was written with a schema that is not known here, fingerprint {fingerprint.hex()}",
                where=_named(event_class),
                remedy="Freeze the writer's classes (choreo schemas freeze) and deploy the schemas folder here first.",
            )
        return self._versions[fingerprint]


def _body(event: Any) -> bytes:
    """The event as Avro without a head; raises SchemaError naming the field that does not fit."""
    event_class: Any = type(event)
    buffer = BytesIO()
    try:
        _write(buffer, schema_of(event_class).parsed, plain_of(event_class)(event))
    # Whatever fastavro's and the types' own conversions raise means one thing: the object does not fit.
    except Exception as error:
        field, cause = field_that_cannot_be_written(event, error)
        raise SchemaError(
            f"cannot be written: {cause}",
            where=f"{event_class.event_type}.{field}",
            remedy="Give the field a value of the type, range, digits and time zone its declaration has.",
        ) from error
    return buffer.getvalue()


def _fitting(event: Any) -> Any:
    """The event that was read from JSON; raises DecodeError where no step could pass its values on."""
    try:
        _body(event)
    except SchemaError as error:
        raise DecodeError(error.what, where=error.where, remedy=error.remedy) from error
    return event


def _reading(writer: Any, target: Any) -> _Read:
    """Read with the writer's schema; where the reader's is another one, into that."""
    return lambda body: _read(body, writer, target)


def _is_avro(content_type: str, data: bytes) -> bool:
    """Tell by the content type; a foreign producer that gives none is known by its first bytes."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == AVRO or (not kind and data.startswith(MARK)):
        return True
    if not kind or kind == JSON or kind.endswith("+json"):
        return False
    raise DecodeError(
        f"content type {content_type!r} cannot be read", where="content-type", remedy=f"Use {AVRO} or {JSON}."
    )


def _json_ready(value: Any) -> dict[str, Any]:
    """Fields as fastavro read them, or as a JSON text holds them."""
    try:
        fields = from_json(value) if isinstance(value, bytes) else to_jsonable_python(value, bytes_mode="base64")
    except Exception as error:
        raise DecodeError(f"is not JSON: {told(error)}", where="value", remedy="Send one JSON object.") from error
    if not isinstance(fields, dict):
        raise DecodeError(f"is JSON, but no object: {fields!r:.40}", where="value", remedy="Send one JSON object.")
    return fields


def _named(event_class: type[Event] | None) -> str:
    return event_class.event_type if event_class else "value"


def _damaged(event_class: type[Event] | None, what: str, field: str = "") -> DecodeError:
    return DecodeError(
        what,
        where=f"{_named(event_class)}.{field}" if field else _named(event_class),
        remedy="The bytes are not what the schema says; look at who wrote them.",
    )


def _same_name(event_class: type[Event], written: str) -> bool:
    """Whether a schema of that name is a version of the class; its type stays where the class is renamed."""
    return written in (event_class.event_type, event_class.event_type.rpartition(".")[2], event_class.__name__)


def _failed_in(event_class: type[Event], error: BaseException) -> DecodeError:
    """What the class's own code raised; raises KeyboardInterrupt itself, for that is the operator's."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return DecodeError(
        f"the class's own code failed with {described(error)}",
        where=_named(event_class),
        remedy="Let validators raise ValueError, and only where a value is wrong.",
    )


def _refused(event_class: type[Event], error: ValidationError) -> DecodeError:
    """The first thing pydantic found, a misspelt field before one that is missing, with how many more there are."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first, *more = sorted(found, key=lambda each: each["type"] != "extra_forbidden")
    field = ".".join(str(step) for step in first["loc"])
    rest = f" (and {len(more)} more)" if more else ""
    remedy = "Send the fields the event declares, each with a value of its type."
    if first["type"] == "extra_forbidden":
        known = {each["name"] for one in definitions(schema_of(event_class).declaration).values()
                 for each in one.get("fields", ())}  # fmt: skip
        near = difflib.get_close_matches(str(first["loc"][-1]), sorted(known), 1)
        remedy = f"Did you mean {near[0]}? {remedy}" if near else remedy
    return DecodeError(
        f"{first['msg'][:1].lower()}{first['msg'][1:]}{rest}",
        where=f"{_named(event_class)}.{field}" if field else _named(event_class),
        remedy=remedy,
    )
