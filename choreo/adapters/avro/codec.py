"""Convert event objects to bytes and back: Avro single-object encoding, and JSON on input.

A value is `C3 01`, the 8-byte fingerprint of the writer's schema, and the Avro body. It is read with the writer's
schema, which is one of the frozen versions, cut to the fields of the reader's class. A field that the writer did not
know yet takes the class's default. Knows nothing of headers or logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import fastavro
from pydantic import ValidationError
from pydantic_core import from_json, to_jsonable_python

from choreo.adapters.avro.exact_json import exact, name_given_twice
from choreo.adapters.avro.faulty_field import field_that_cannot_be_read, field_that_cannot_be_written, message_of
from choreo.adapters.avro.frozen import versions_by_fingerprint
from choreo.adapters.avro.schema import Schema, common_fields, definitions, schema_from, schema_of
from choreo.adapters.avro.tracker_json import made_by_tracker
from choreo.core.errors import DecodeError, SchemaError, described
from choreo.core.events import TRACKER_JSON
from choreo.core.wording import counted, did_you_mean, fault_text, lowered
from choreo.event.event import Event
from choreo.event.made_anew import made_anew
from choreo.event.own_code import has_own_code
from choreo.event.plain import Plain, plain_of

E = TypeVar("E")

AVRO = "application/avro"
JSON = "application/json"

MARK = b"\xc3\x01"
HEADER_BYTES = len(MARK) + 8

_Read = Callable[[BytesIO], Any]
_write = fastavro.schemaless_writer
_read = fastavro.schemaless_reader


class Writer(NamedTuple):
    """The compiled encoder of one class."""

    head: bytes
    parsed: Any
    plain: Plain
    check: Callable[..., Any]
    """Validates the fields: a copied object, or one made without validation, may hold any value."""
    has_own_code: bool
    """Whether validators of the user's may change a value each time it is read."""


class AvroCodec:
    """The Codec of choreo. One object serves a process; it keeps a compiled path per class and writer's schema."""

    content_type = AVRO

    def __init__(self, folder: Path | None = None) -> None:
        """Load the frozen versions in this folder besides the classes' own; raises SchemaError on a damaged file."""
        self._versions: dict[bytes, Schema] = versions_by_fingerprint(folder) if folder else {}
        self._writers: dict[type[Event], Writer] = {}
        self._readers: dict[tuple[type[Event] | None, bytes], _Read] = {}

    def encode(self, event: Any) -> bytes:
        """Return the event as Avro single-object bytes; raises SchemaError naming the field that does not fit."""
        event_class = type(event)
        head, parsed, plain, check, has_own_code = self._writers.get(event_class) or self._writer(event_class)
        buffer = BytesIO()
        buffer.write(head)
        try:
            again = check(event.__dict__, strict=True)
            _write(buffer, parsed, plain(event))
            if has_own_code:
                _require_steady(event, again)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a second attempt at writing finds the fault
            return head + _checked_body(event)
        return buffer.getvalue()

    def decode(self, event_class: type[E], content_type: str, data: bytes, *, fills: bool = False) -> E:
        """Return the event in a value, validated like a new one; raises DecodeError naming the field.

        `fills`: see the port.
        """
        class_ = cast("type[Event]", event_class)
        try:
            if _is_avro(content_type, data):
                # Not strict, also where the class is: a stored symbol is a text, not yet a member of its Enum.
                return cast(
                    "E", class_.__pydantic_validator__.validate_python(self._values(class_, data), strict=False)
                )
            if content_type == TRACKER_JSON:
                return cast("E", made_by_tracker(class_, data))
            event = _fitting(class_.__pydantic_validator__.validate_json(exact(class_, data), strict=True))
            return cast("E", event if fills else _complete(event, data))
        except ValidationError as error:
            raise _refused(class_, error) from error
        except DecodeError:
            raise
        # A user's validator may raise anything, even an exception that no error handler expects (SystemExit).
        except BaseException as error:
            raise _failed_in(class_, error) from error

    def fields(self, event_class: type[Any] | None, content_type: str, data: bytes) -> dict[str, Any]:
        """Return the event's fields as JSON-ready values; without a class, as in the writer's schema."""
        if event_class is not None:
            event = self.decode(event_class, content_type, data)
            if not _is_avro(content_type, data) and content_type != TRACKER_JSON:
                schema = schema_of(
                    cast("Any", event_class)
                )  # as it is shown once it was written: 1.5 with all its decimal places
                values = _read(BytesIO(_body(event)), schema.parsed, None)
                event = event_class.__pydantic_validator__.validate_python(values, strict=False)
            try:
                return cast("dict[str, Any]", event.model_dump(mode="json", warnings="none"))
            except BaseException as error:  # a serializer of the user's, as in decode
                raise _failed_in(event_class, error) from error
        return _json_ready(self._values(None, data) if _is_avro(content_type, data) else data)

    def values(self, event_class: type[Any], content_type: str, data: bytes) -> dict[str, Any]:
        """Return the event's fields as Python values; raises DecodeError as `decode` does."""
        event = self.decode(event_class, content_type, data)
        return {name: getattr(event, name) for name in event_class.event_fields()}

    def _writer(self, event_class: type[Event]) -> Writer:
        """Compile the encoder of this class."""
        if not issubclass(event_class, Event):
            raise SchemaError(
                "is not an event", where=event_class.__name__, remedy="Return an object of a class declared with Event."
            )
        schema = schema_of(event_class)
        check = event_class.__pydantic_validator__.validate_python
        own_code = has_own_code(event_class.__pydantic_core_schema__)
        path = Writer(MARK + schema.fingerprint, schema.parsed, plain_of(event_class), check, own_code)
        self._writers[event_class] = path
        return path

    def _values(self, event_class: type[Event] | None, data: bytes) -> dict[str, Any]:
        """Return the plain values in an Avro value, cut to the fields of this class."""
        read = self._readers.get((event_class, data[:HEADER_BYTES])) or self._reader(event_class, data)
        body = BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            values = read(body)
        # A damaged body can cause almost any error: a length beyond the end, an invalid text, a year 52000.
        except Exception as error:
            field = field_that_cannot_be_read(
                self._version(event_class, data[len(MARK) : HEADER_BYTES]), data[HEADER_BYTES:]
            )
            raise _damaged(event_class, f"cannot be read: {message_of(error)}", field) from error
        if body.tell() != len(data):
            raise _damaged(
                event_class, f"has {counted(len(data) - body.tell(), 'byte')} more than its schema describes"
            )
        return cast("dict[str, Any]", values)

    def _reader(self, event_class: type[Event] | None, data: bytes) -> _Read:
        """Compile the decoder from one writer's schema into this class."""
        if len(data) < HEADER_BYTES or not data.startswith(MARK):
            size, begins = counted(len(data), "byte"), data[:2].hex() or "nothing"
            raise DecodeError(
                f"is not Avro single-object encoding: {size}, beginning with {begins}",
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
        """Return the writer's schema with this fingerprint."""
        if event_class is not None and schema_of(event_class).fingerprint == fingerprint:
            return schema_of(event_class)
        if fingerprint not in self._versions:
            raise DecodeError(
                f"was written with a schema that is not known here, fingerprint {fingerprint.hex()}",
                where=_named(event_class),
                remedy="Freeze the writer's classes (choreo schemas freeze) and deploy the schemas folder here first.",
            )
        return self._versions[fingerprint]


def _checked_body(event: Any) -> bytes:
    """Return the event as Avro without the header.

    Raises SchemaError naming the field that does not fit or is not as declared. An object may be without validation:
    `model_copy` and `model_construct` do not validate, and a list may be changed.
    """
    body, event_class = _body(event), type(event)
    fields = {name: value for name, value in event.__dict__.items() if name in event_class.model_fields}
    try:
        again = event_class.__pydantic_validator__.validate_python(fields, strict=True)
    except ValidationError as error:
        refused = _refused(event_class, error)
        remedy = "Make the object anew with all its values: a copy with an update is not validated."
        raise SchemaError(f"is not as declared: {refused.what}", where=refused.where, remedy=remedy) from error
    except BaseException as error:
        failed = _failed_in(event_class, error)
        raise SchemaError(failed.what, where=failed.where, remedy=failed.remedy) from error
    _require_steady(event, again)
    return body


def _require_steady(event: Any, again: Any) -> None:
    """Raise SchemaError where the class makes other values of its own: a reader would get others than were written."""
    for name, value in again.__dict__.items():
        if name in type(event).model_fields and value != event.__dict__[name]:
            raise SchemaError(
                f"the class's own code makes {value!r:.60} of {event.__dict__[name]!r:.60} when it is read",
                where=f"{type(event).event_type}.{name}",
                remedy="Let a validator return a value that it has returned before as it is.",
            )


def _complete(event: Any, data: bytes) -> Any:
    """Return the event of a record in JSON.

    Raises DecodeError where the JSON has two values of one name, or none of a field that the class makes anew for
    each object.
    """
    twice = name_given_twice(data)
    if twice:
        raise DecodeError(f"{twice!r:.100} is given twice", where=type(event).event_type, remedy="Send each name once.")
    paths = made_anew(event)
    if paths:
        raise DecodeError(
            "is missing: the class makes another value for each reader",
            where=".".join((type(event).event_type, *map(str, paths[0]))),
            remedy="Let the producer send it; a start through choreo is filled in before it is written.",
        )
    return event


def _body(event: Any) -> bytes:
    """Return the event as Avro without the header; raises SchemaError naming the field that does not fit."""
    event_class: Any = type(event)
    buffer = BytesIO()
    try:
        _write(buffer, schema_of(event_class).parsed, plain_of(event_class)(event))
    # Every error of fastavro's and the types' own conversions means one thing: the object does not fit.
    except Exception as error:
        field, cause = field_that_cannot_be_written(event, error)
        raise SchemaError(
            f"cannot be written: {cause}",
            where=f"{event_class.event_type}.{field}",
            remedy="Give the field a value of the type, range, digits and time zone its declaration has.",
        ) from error
    return buffer.getvalue()


def _fitting(event: Any) -> Any:
    """Return the event read from JSON; raises DecodeError if no step could pass its values on."""
    try:
        _body(event)
    except SchemaError as error:
        raise DecodeError(error.what, where=error.where, remedy=error.remedy) from error
    return event


def _reading(writer: Any, target: Any) -> _Read:
    """Read with the writer's schema, and convert to the reader's where it is another one."""
    return lambda body: _read(body, writer, target)


def _is_avro(content_type: str, data: bytes) -> bool:
    """Decide by the content type; a foreign producer that sends none is recognised by the first bytes of its value."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == AVRO or (not kind and data.startswith(MARK)):
        return True
    if not kind or kind == JSON or kind.endswith("+json"):
        return False
    raise DecodeError(
        f"content type {content_type!r} cannot be read", where="content-type", remedy=f"Use {AVRO} or {JSON}."
    )


def _json_ready(value: Any) -> dict[str, Any]:
    """Return fields as a JSON text holds them, from fields as fastavro read them."""
    try:
        fields = from_json(value) if isinstance(value, bytes) else to_jsonable_python(value, bytes_mode="base64")
    except Exception as error:
        raise DecodeError(f"is not JSON: {message_of(error)}", where="value", remedy="Send one JSON object.") from error
    if not isinstance(fields, dict):
        raise DecodeError(f"is JSON, but no object: {fields!r:.40}", where="value", remedy="Send one JSON object.")
    return fields


def _named(event_class: type[Event] | None) -> str:
    return event_class.event_type if event_class else "value"


def _damaged(event_class: type[Event] | None, what: str, field: str = "") -> DecodeError:
    return DecodeError(
        what,
        where=f"{_named(event_class)}.{field}" if field else _named(event_class),
        remedy="The bytes do not fit the schema; check the program that wrote them.",
    )


def _same_name(event_class: type[Event], written: str) -> bool:
    """Return whether a schema of that name is a version of the class; a renamed class keeps its event type."""
    return written in (event_class.event_type, event_class.event_type.rpartition(".")[2], event_class.__name__)


def _failed_in(event_class: type[Event], error: BaseException) -> DecodeError:
    """Return a DecodeError for an error in the class's own code; raise KeyboardInterrupt itself.

    The operator sent it.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    return DecodeError(
        f"the class's own code failed with {described(error)}",
        where=_named(event_class),
        remedy="Let validators raise ValueError, and only where a value is wrong.",
    )


def _refused(event_class: type[Event], error: ValidationError) -> DecodeError:
    """Return every error that pydantic found; the message has the first one, a misspelt field before a missing one."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    found.sort(key=lambda each: each["type"] != "extra_forbidden")
    faults = tuple((_place(event_class, each), lowered(fault_text(each))) for each in found)
    remedy = "Send the fields the event declares, each with a value of its type."
    if found[0]["type"] == "extra_forbidden":
        known = {each["name"] for one in definitions(schema_of(event_class).declaration).values()
                 for each in one.get("fields", ())}  # fmt: skip
        remedy = did_you_mean(found[0]["loc"][-1], known) + remedy
    (where, what), more = faults[0], len(faults) - 1

    rest = f" (and {more} more)" if more else ""
    return DecodeError(what + rest, where=where, remedy=remedy, faults=faults)


def _place(event_class: type[Event], found: Mapping[str, Any]) -> str:
    return ".".join((_named(event_class), *map(str, found["loc"])))
