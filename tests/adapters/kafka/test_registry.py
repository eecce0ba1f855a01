"""Confluent's wire format: written with the registry's ids, read by others' tools, and never under a wrong schema.

The registry is the client's own, in memory.
"""

import json
import struct
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import fastavro
import pytest
from pydantic import Field

from choreo.adapters.avro.codec import AVRO, JSON, MARK, AvroCodec
from choreo.adapters.avro.frozen import freeze
from choreo.core.errors import DecodeError, SchemaError, SettingsError, StorageError
from choreo.core.events import Envelope, to_headers
from choreo.event.event import Event, Part
from tests.support.registry import schema_registry as schema_registry_at
from tests.support.required import needed

schema_registry = needed("confluent_kafka.schema_registry", "registry,dev")
confluent_avro = needed("confluent_kafka.schema_registry.avro", "registry,dev")
serialization = needed("confluent_kafka.serialization", "registry,dev")
cloud_events = needed("cloudevents.core.bindings.kafka", "registry,dev")
registry = needed("choreo.adapters.kafka.registry", "registry,dev")


class Line(Part):
    """An article and its price."""

    sku: str
    price: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]


class Placed(Event):
    """An event with a part, a decimal and a default."""

    order_id: str
    amount: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    lines: list[Line]
    note: str = ""


PLACED = Placed(order_id="o-1", amount=Decimal("12.50"), lines=[Line(sku="tea", price=Decimal("4.20"))])


@pytest.fixture
def client() -> Any:
    """Return a registry of its own."""
    return schema_registry.SchemaRegistryClient.new_client({"url": "mock://registry"})


@pytest.fixture
def codec(client: Any) -> Any:
    """Return a codec over it that has not asked for anything yet."""
    return registry.RegistryCodec(client)


def written(client: Any, declaration: dict[str, Any], values: dict[str, Any]) -> bytes:
    """Return a value as a foreign producer writes it, with its schema registered."""
    schema = schema_registry.Schema(json.dumps(declaration), "AVRO")
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(declaration), values)
    return struct.pack(">bI", 0, client.register_schema(declaration["name"], schema)) + body.getvalue()


def declared(*, scale: int = 2, namespace: str = "") -> dict[str, Any]:
    """Return the schema a foreign producer has for the same event, not quite as ours."""
    money = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": scale}
    line = {
        "type": "record",
        "name": "Line",
        "fields": [{"name": "sku", "type": "string"}, {"name": "price", "type": money}],
    }
    return {
        "type": "record",
        "name": f"{namespace}Placed",
        "fields": [
            {"name": "order_id", "type": "string"},
            {"name": "amount", "type": money},
            {"name": "lines", "type": {"type": "array", "items": line}},
        ],
    }


VALUES = {"order_id": "o-1", "amount": Decimal("12.50"), "lines": [{"sku": "tea", "price": Decimal("4.20")}]}


def test_a_value_begins_with_the_registrys_id_and_is_read_as_it_was_written(codec: Any, client: Any) -> None:
    """Magic 0, four bytes of id, the Avro body; the subject is the record's name, for any topic."""
    value = codec.encode(PLACED)
    magic, schema_id = struct.unpack(">bI", value[:5])
    assert (magic, schema_id) == (0, client.get_latest_version("Placed").schema_id)
    assert codec.decode(Placed, AVRO, value) == PLACED
    assert codec.decode(Placed, "", value) == PLACED, "a producer that gives no content type"
    assert codec.fields(Placed, AVRO, value)["amount"] == "12.50"
    assert codec.fields(None, AVRO, value)["order_id"] == "o-1", "without the class, by the writer's schema"


def test_confluents_own_deserializer_reads_what_is_written(codec: Any, client: Any) -> None:
    """Connect, ksqlDB, Flink and every Confluent client read the log by the same rule."""
    read = confluent_avro.AvroDeserializer(client)
    context = serialization.SerializationContext("order", serialization.MessageField.VALUE)
    assert read(codec.encode(PLACED), context) == {**VALUES, "note": ""}


def test_what_confluents_own_serializer_writes_is_read(codec: Any, client: Any) -> None:
    """A producer of theirs takes part with its own schema, here one that lacks a field with a default."""
    write = confluent_avro.AvroSerializer(client, json.dumps(declared()))
    context = serialization.SerializationContext("order", serialization.MessageField.VALUE)
    assert codec.decode(Placed, AVRO, write(VALUES, context)) == PLACED


def test_the_official_cloudevents_sdk_reads_headers_and_value(codec: Any) -> None:
    """Binary mode: attributes in ce_ headers, the media type in content-type, the value as it is."""
    event = Envelope("id-1", "Placed", "o-1", "order", run="id-1", content_type=AVRO, time_ms=1_700_000_000_123)
    headers = {name: text.encode() for name, text in to_headers(event).items()}
    value = codec.encode(PLACED)
    read = cloud_events.from_kafka_event(cloud_events.KafkaMessage(headers, b"o-1", value))
    assert (read.get_id(), read.get_type(), read.get_source()) == ("id-1", "Placed", "choreo/order")
    assert (read.get_specversion(), read.get_datacontenttype()) == ("1.0", AVRO)
    assert read.get_time().isoformat(timespec="milliseconds") == "2023-11-14T22:13:20.123+00:00"
    assert read.get_extension("choreorun") == "id-1"
    assert read.get_extension("partitionkey") == "o-1"
    assert read.get_data() == value


def test_both_formats_and_json_are_read_always(codec: Any) -> None:
    """A log that was begun without a registry stays readable."""
    single = AvroCodec().encode(PLACED)
    assert single.startswith(MARK)
    assert codec.decode(Placed, AVRO, single) == PLACED
    assert codec.decode(Placed, JSON, PLACED.model_dump_json().encode()) == PLACED


def test_a_decimal_of_another_scale_is_read_by_its_writers_schema(codec: Any, client: Any) -> None:
    """The canonical form leaves the scale out: by its fingerprint 12.500 would be read as 125.00."""
    assert codec.decode(Placed, AVRO, codec.encode(PLACED)) == PLACED
    value = written(client, declared(scale=4), VALUES)
    assert codec.decode(Placed, AVRO, value) == PLACED


def test_a_namespace_is_the_writers_own_affair(codec: Any, client: Any) -> None:
    """Java's `com.shop.Placed` is the event Placed."""
    assert codec.decode(Placed, AVRO, written(client, declared(namespace="com.shop."), VALUES)) == PLACED


def test_another_event_under_this_type_is_refused(codec: Any, client: Any) -> None:
    """Bytes that were written with another schema would decode to nonsense."""
    other = {"type": "record", "name": "Picked", "fields": [{"name": "order_id", "type": "string"}]}
    with pytest.raises(DecodeError, match="was written as Picked"):
        codec.decode(Placed, AVRO, written(client, other, {"order_id": "o-1"}))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\x00\x00\x00", "has 3 bytes, fewer than the head"),
        (b"\x00\x00\x00\x03\xe7body", r"schema 999: the schema registry does not know it"),
    ],
)
def test_what_cannot_be_read_says_why(codec: Any, value: bytes, says: str) -> None:
    """And is a dead letter, not a crash."""
    with pytest.raises(DecodeError, match=says):
        codec.decode(Placed, AVRO, value)


def test_a_schema_that_is_not_avros_is_refused(codec: Any, client: Any) -> None:
    """A registry holds Protobuf and JSON Schema too."""
    schema_id = client.register_schema("Placed", schema_registry.Schema("{}", "JSON"))
    with pytest.raises(DecodeError, match="is of type JSON"):
        codec.decode(Placed, AVRO, struct.pack(">bI", 0, schema_id) + b"{}")


def test_a_registry_that_is_away_is_waited_for_and_not_blamed_on_the_record(codec: Any) -> None:
    """StorageError: a host tries again; a dead letter would be wrong."""
    away = registry.registry_codec({"url": "http://127.0.0.1:9", "max.retries": "0"})
    with pytest.raises(StorageError, match="the schema registry does not answer"):
        away.encode(PLACED)
    with pytest.raises(StorageError, match="does not answer"):
        away.decode(Placed, AVRO, codec.encode(PLACED))
    with pytest.raises(StorageError, match="does not answer"):
        away.encode(PLACED)


async def test_prepared_means_that_nothing_is_asked_for_later(client: Any, codec: Any) -> None:
    """Own classes are registered and all their versions known before the first record: a registry may go away then."""
    older = declared()
    value = written(client, older, VALUES)
    await registry.prepared(codec, [Placed])
    client.clear_caches()
    client.delete_subject("Placed")
    assert codec.decode(Placed, AVRO, codec.encode(PLACED)) == PLACED
    assert codec.decode(Placed, AVRO, value) == PLACED


async def test_a_start_without_a_registry_ends_with_what_is_missing() -> None:
    """After the time a start may wait."""
    away = registry.registry_codec({"url": "http://127.0.0.1:9", "max.retries": "0"})
    with pytest.raises(StorageError, match="CHOREO_SCHEMA_REGISTRY_URL"):
        await registry.prepared(away, [Placed], start_s=0)


def test_settings_come_from_the_environment_and_secrets_stay_out_of_errors() -> None:
    """By the client's own names; the prefix of the subjects is ours."""
    settings = registry.settings_of(
        {
            "CHOREO_SCHEMA_REGISTRY_URL": "mock://registry",
            "CHOREO_SCHEMA_REGISTRY_TIMEOUT": "3",
            "CHOREO_SCHEMA_REGISTRY_SUBJECT_PREFIX": "shop.",
            "CHOREO_KAFKA": "localhost:9092",
        }
    )
    assert settings == {"url": "mock://registry", "timeout": "3", "subject.prefix": "shop."}
    with schema_registry_at() as address:
        registry.registry_codec({**settings, "url": address}).prepare([Placed])
        subjects = schema_registry.SchemaRegistryClient({"url": address}).get_subjects()
    assert subjects == ["shop.Placed"]
    with pytest.raises(SettingsError, match="does not take it") as refused:
        registry.registry_codec({"url": "ftp://user:hush@registry", "timeout": "3"})
    assert "hush" not in str(refused.value)


def test_a_schema_the_registry_refuses_names_the_check(
    monkeypatch: pytest.MonkeyPatch, client: Any, codec: Any
) -> None:
    """Such as one that is not compatible with the registered schema of the subject."""

    def refuse(*_: Any) -> int:
        raise schema_registry.SchemaRegistryError(409, 409, "Schema being registered is incompatible")

    monkeypatch.setattr(client, "register_schema", refuse)
    with pytest.raises(SchemaError, match="choreo schemas check"):
        codec.encode(PLACED)


def test_the_frozen_versions_are_known_too(client: Any, tmp_path: Path) -> None:
    """A value without a registry's id is read by the frozen schema, as ever."""
    freeze([Placed], tmp_path)
    assert registry.RegistryCodec(client, tmp_path).fields(None, AVRO, AvroCodec().encode(PLACED))["order_id"] == "o-1"
