"""Event objects to bytes and back with a schema registry: Confluent's wire format, which every tool reads.

A value is `00`, the registry's 4-byte id of the writer's schema, and the Avro body; Avro single-object encoding and
JSON are read as without a registry. CHOREO_SCHEMA_REGISTRY_URL selects it. Knows nothing of topics: the subject of a
schema is its record's name (Confluent's RecordNameStrategy), so that one topic holds events of many types.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar, cast

from choreo.adapters.avro.codec import AVRO, HEADER_BYTES, MARK, AvroCodec, Writer
from choreo.adapters.avro.schema import Schema, schema_from, schema_of
from choreo.core.errors import ChoreoError, DecodeError, MissingExtraError, SchemaError, SettingsError, StorageError
from choreo.core.wording import counted
from choreo.event.event import Event
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.redaction import Redactor, redact

try:
    from confluent_kafka.schema_registry import Schema as RegistrySchema
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError
except ImportError as _missing:
    raise MissingExtraError.of(
        "the client of the schema registry is not installed",
        where="setting CHOREO_SCHEMA_REGISTRY_URL",
        extra="registry",
    ) from _missing

E = TypeVar("E")
T = TypeVar("T")

REGISTRY = "schema registry"
ENVIRONMENT = "CHOREO_SCHEMA_REGISTRY_"
MAGIC = b"\x00"
ID_BYTES = 4
HEAD_BYTES = len(MAGIC) + ID_BYTES
FINGERPRINT_BYTES = HEADER_BYTES - len(MARK)

_CLIENT: Mapping[str, Any] = {
    # The client's own default is no bound. An answer takes some milliseconds; the loop waits for it.
    "timeout": 5.0,
    # Hosts and the start try again by themselves; the client's own retries would stop the loop for 10 s.
    "max.retries": 1,
    "retries.wait.ms": 100,
}
_NUMBERS = ("timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity")
_SUBJECT_PREFIX = "subject.prefix"
_AVRO_SCHEMA = "AVRO"
_START_PAUSE_S = 0.5

_log = logging.getLogger(__name__)


class RegistryCodec(AvroCodec):
    """choreo's codec with schemas named by a registry's ids. A process requests each id once."""

    def __init__(
        self,
        client: SchemaRegistryClient,
        folder: Path | None = None,
        *,
        subject_prefix: str = "",
        dependencies: Dependencies | None = None,
    ) -> None:
        """Send nothing to the registry yet; raises SchemaError on a damaged file in the folder."""
        super().__init__(folder)
        self._client = client
        self._dependencies = dependencies or NoReports()
        self._is_away = False
        self._subject_prefix = subject_prefix
        self._marks: dict[tuple[type[Event] | None, bytes], bytes] = {}

    def prepare(self, event_classes: Iterable[type[Event]]) -> None:
        """Register these classes' schemas, and load the earlier ones: later no request is sent for them.

        Blocks; belongs in a thread. Raises SchemaError where the registry refuses a schema, StorageError where it
        does not answer.
        """
        for event_class in event_classes:
            self._writer(event_class)
            subject = self._subject_of(event_class)
            for number in self._ask(subject, self._client.get_versions, subject):
                known = self._ask(subject, self._client.get_version, subject, number)
                self._learn(event_class, _bytes_of(known.schema_id), known.schema)

    def check(self) -> None:
        """Ask again a registry that did not answer the last time. Blocks; raises what `prepare` raises."""
        if self._is_away:
            self._ask("its subjects", self._client.get_subjects)

    def decode(self, event_class: type[E], content_type: str, data: bytes, *, fills: bool = False) -> E:
        """Return the event in a value of either format.

        Raises DecodeError, and StorageError where the registry is away.
        """
        known = self._single_object(cast("type[Event]", event_class), content_type, data)
        return super().decode(event_class, content_type, known, fills=fills)

    def fields(self, event_class: type[Any] | None, content_type: str, data: bytes) -> dict[str, Any]:
        """Return the event's fields as JSON-ready values; without a class as the writer's schema has them."""
        return super().fields(event_class, content_type, self._single_object(event_class, content_type, data))

    def _writer(self, event_class: type[Event]) -> Writer:
        """Compile the writer of this class, with the registry's id at its head."""
        path = super()._writer(event_class)
        del self._writers[event_class]  # it writes the other format; and the registry may fail
        subject, declaration = self._subject_of(event_class), schema_of(event_class).declaration
        text = RegistrySchema(json.dumps(declaration, separators=(",", ":")), _AVRO_SCHEMA)
        number = self._ask(subject, self._client.register_schema, subject, text)
        self._writers[event_class] = path = path._replace(head=MAGIC + _bytes_of(number))
        return path

    def _single_object(self, event_class: type[Event] | None, content_type: str, data: bytes) -> bytes:
        """Return a value in Confluent's format with the other format's head; anything else unchanged."""
        if data[:1] != MAGIC or content_type.partition(";")[0].strip().lower() not in ("", AVRO):
            return data
        if len(data) < HEAD_BYTES:
            raise DecodeError(
                f"has {counted(len(data), 'byte')}, fewer than the head of Confluent's wire format",
                where=_named(event_class),
                remedy="Write 00, the schema's id in 4 bytes, and the Avro body.",
            )
        number = data[len(MAGIC) : HEAD_BYTES]
        mark = self._marks.get((event_class, number)) or self._find(event_class, number)
        return MARK + mark + data[HEAD_BYTES:]

    def _find(self, event_class: type[Event] | None, number: bytes) -> bytes:
        schema_id = int.from_bytes(number, "big")
        about = f"{_named(event_class)}, schema {schema_id}"
        return self._learn(event_class, number, self._ask(about, self._client.get_schema, schema_id))

    def _learn(self, event_class: type[Event] | None, number: bytes, found: RegistrySchema) -> bytes:
        """Return this schema's name in the process: the class's fingerprint if they are equal, else one from the id.

        Not the schema's own fingerprint: a fingerprint leaves out a decimal's scale, and this schema is not frozen.
        """
        mark = bytes(FINGERPRINT_BYTES - ID_BYTES) + number
        schema = _read(found, int.from_bytes(number, "big"))
        if event_class is not None and schema.declaration == schema_of(event_class).declaration:
            mark = schema_of(event_class).fingerprint
        else:
            self._versions[mark] = schema._replace(fingerprint=mark)
        self._marks[event_class, number] = mark
        return mark

    def _subject_of(self, event_class: type[Event]) -> str:
        return f"{self._subject_prefix}{schema_of(event_class).declaration['name']}"

    def _ask(self, about: str, question: Callable[..., T], *arguments: Any) -> T:
        """Return one answer of the registry; raises DecodeError, SchemaError and StorageError."""
        try:
            answer = question(*arguments)
        except SchemaRegistryError as error:
            refusal = _refusal(error, about)
            self._note(refusal if isinstance(refusal, StorageError) else None)
            raise refusal from error
        # Every error of its HTTP library means the same: there was no answer.
        except Exception as error:
            away = StorageError(
                f"the schema registry does not answer: {type(error).__name__}: {redact(str(error))}",
                where=about,
                remedy=f"It is tried again; check that it runs at {ENVIRONMENT}URL.",
            )
            self._note(away)
            raise away from error
        self._note(None)
        return answer

    def _note(self, away: StorageError | None) -> None:
        """Report whether the registry can be used."""
        self._is_away = away is not None
        if away is None:
            self._dependencies.clear(REGISTRY)
        else:
            report_error(self._dependencies, REGISTRY, away)


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the registry client's settings among environment variables, by its own names.

    An example is `basic.auth.user.info`.
    """
    return {
        name.removeprefix(ENVIRONMENT).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT)
    }


def registry_codec(
    settings: Mapping[str, str], folder: Path | None = None, dependencies: Dependencies | None = None
) -> RegistryCodec:
    """Return a codec over the registry at `url`; `subject.prefix` precedes each subject. Raises SettingsError."""
    redact.learn(settings)
    rest: dict[str, Any] = {**_CLIENT, **settings}
    prefix = rest.pop(_SUBJECT_PREFIX, "")
    try:
        for name in _NUMBERS:
            if name in rest:
                rest[name] = float(rest[name])
        client = SchemaRegistryClient.new_client(rest)
    except (ValueError, TypeError, OSError) as error:
        raise SettingsError(
            f"the registry's client does not take it: {Redactor(settings)(str(error))}",
            where=f"{ENVIRONMENT}*",
            remedy=f"Set {ENVIRONMENT}URL to http://host:8081, and the client's other settings by their own names.",
        ) from error
    return RegistryCodec(client, folder, subject_prefix=prefix, dependencies=dependencies)


async def prepared(
    codec: RegistryCodec, event_classes: Iterable[type[Event]], *, start_s: float = 60.0
) -> RegistryCodec:
    """Return the codec, once the registry has these classes' schemas; wait for a registry that is not there yet.

    Raises StorageError if it does not answer within `start_s` seconds, SchemaError where it refuses a schema.
    """
    classes, until = list(event_classes), time.monotonic() + start_s
    while True:
        try:
            await asyncio.to_thread(codec.prepare, classes)
        except StorageError as error:
            if time.monotonic() > until:
                raise
            _log.warning("waiting for the schema registry: %s", error)
            await asyncio.sleep(_START_PAUSE_S)
        else:
            return codec


def _read(found: RegistrySchema, schema_id: int) -> Schema:
    """Return the registry's schema as fastavro uses it; raises DecodeError."""
    where = f"schema {schema_id} of the registry"
    if found.schema_type != _AVRO_SCHEMA:
        raise DecodeError(
            f"is of type {found.schema_type}", where=where, remedy="Write the value with an Avro schema, or as JSON."
        )
    try:
        declaration = json.loads(found.schema_str or "")
        # `com.shop.OrderPlaced` is the class OrderPlaced, in any namespace of its writer.
        namespace, _, name = declaration["name"].rpartition(".")
        return schema_from({**declaration, "name": name, **({"namespace": namespace} if namespace else {})})
    # Every error of JSON, fastavro or a missing part means the same: this is no schema of an event.
    except Exception as error:
        raise DecodeError(
            f"cannot be read as the schema of an event: {type(error).__name__}: {error}",
            where=where,
            remedy="Register the whole record as one schema, without references to others.",
        ) from error


def _refusal(error: SchemaRegistryError, about: str) -> ChoreoError:
    """Return the registry's answer as an error of choreo.

    Only an answer that a retry cannot change is a SchemaError.
    """
    message = f"{redact(str(error.error_message))} (HTTP {error.http_status_code})"
    if error.http_status_code == HTTPStatus.NOT_FOUND:
        return DecodeError(
            f"the schema registry does not know it: {message}",
            where=about,
            remedy=f"Ask the writer of the value for the registry of its schema; {ENVIRONMENT}URL names the one used.",
        )
    if error.http_status_code in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
        return SchemaError(
            f"the schema registry refuses it: {message}",
            where=about,
            remedy="Run `choreo schemas check`, and check whether the subject holds schemas of another writer.",
        )
    return StorageError(
        f"the request to the schema registry failed: {message}",
        where=about,
        remedy=f"It is tried again; check the registry, and the rights of {ENVIRONMENT}BASIC_AUTH_USER_INFO there.",
    )


def _bytes_of(schema_id: int | None) -> bytes:
    return (schema_id or 0).to_bytes(ID_BYTES, "big")


def _named(event_class: type[Event] | None) -> str:
    return event_class.event_type if event_class else "value"
