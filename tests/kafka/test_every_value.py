"""Every type by every way into Kafka, with a schema registry and Redis: a published value is shown and found as it is.

The foreign ways are Confluent's own client and serializer: JSON, CloudEvents in structured mode, Avro with the
registry's ids and Avro in single-object encoding.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message, Producer

from choreo.adapters.avro.codec import AVRO, HEADER_BYTES, JSON
from choreo.adapters.avro.schema import schema_of
from choreo.app.exact_json import written
from choreo.core.events import Position
from choreo.settings import Settings, load
from choreo.wiring import App
from tests.kafka.conftest import Servers
from tests.scenarios.every_value import CODEC, FLOW, OWN_WAYS, Sent, Way, as_json, held
from tests.support.registry import schema_registry
from tests.support.required import needed
from tests.support.running import running

client = needed("confluent_kafka.schema_registry", "registry,dev")
confluent_avro = needed("confluent_kafka.schema_registry.avro", "registry,dev")
serialization = needed("confluent_kafka.serialization", "registry,dev")

TOPIC = """
name: order
key: k
partitions: 2
retention: forever
owner: tests
events: [Sent, Echoed]
dead_letters: {name: order.dead-letters, partitions: 1, retention: forever}
"""


class Foreign:
    """A program that knows the topic and the contract, and nothing of choreo."""

    def __init__(self, kafka: str, prefix: str, registry: str) -> None:
        """Register a schema of its own, in a namespace of its own."""
        self._producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
        self._topic = f"{prefix}order"
        declaration = schema_of(Sent).declaration
        self._schema = fastavro.parse_schema(declaration)
        self._serializer = confluent_avro.AvroSerializer(
            client.SchemaRegistryClient({"url": registry}),
            json.dumps({**declaration, "namespace": "com.shop"}),
            conf={"subject.name.strategy": client.topic_record_subject_name_strategy},
        )

    async def by_foreign_json(self, _app: App, made: Any) -> Position:
        """Write JSON under key and `ce_type`."""
        return await self._produced(made.k, written(as_json(made)), {"ce_type": "Sent", "content-type": JSON})

    async def by_foreign_structured_mode(self, _app: App, made: Any) -> Position:
        """Write one JSON object with attributes and data (CloudEvents, structured content mode)."""
        attributes = {"specversion": "1.0", "id": made.k, "source": "/shop", "type": "Sent"}
        event = json.dumps(attributes)[:-1].encode() + b', "data": ' + written(as_json(made)) + b"}"
        return await self._produced(made.k, event, {"content-type": "application/cloudevents+json; charset=UTF-8"})

    async def by_foreign_single_object_encoding(self, _app: App, made: Any) -> Position:
        """Write Avro that names its schema by the fingerprint."""
        return await self._produced(made.k, CODEC.encode(made), {"ce_type": "Sent", "content-type": AVRO})

    async def by_foreign_serializer(self, _app: App, made: Any) -> Position:
        """Write Avro as Confluent's serializer does, with the registry's id of the own schema."""
        fields = fastavro.schemaless_reader(BytesIO(CODEC.encode(made)[HEADER_BYTES:]), self._schema, None)
        place = serialization.SerializationContext(self._topic, serialization.MessageField.VALUE)
        return await self._produced(made.k, self._serializer(fields, place), {"ce_type": "Sent"})

    @property
    def ways(self) -> tuple[Way, ...]:
        """Return all of them."""
        return (
            self.by_foreign_json,
            self.by_foreign_structured_mode,
            self.by_foreign_single_object_encoding,
            self.by_foreign_serializer,
        )

    async def _produced(self, key: str, value: bytes, headers: Mapping[str, str]) -> Position:
        reports: list[tuple[Any, Message]] = []
        self._producer.produce(
            self._topic, value, key, headers=dict(headers), on_delivery=lambda *report: reports.append(report)
        )
        await asyncio.to_thread(self._producer.flush, 20)
        ((error, message),) = reports
        assert error is None, error
        return Position("order", message.partition(), message.offset())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a registry that choreo uses."""
    with schema_registry() as address:
        monkeypatch.setenv("CHOREO_SCHEMA_REGISTRY_URL", address)
        yield address


@pytest.fixture
def settings(servers: Servers, tmp_path: Path) -> Settings:
    """Return the flow on the servers, in topics of its own."""
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "order.yaml").write_text(TOPIC)
    places = {name: tmp_path / name for name in ("data", "topics", "schemas")}
    return load(flows=(FLOW,), kafka=servers.kafka, redis=servers.redis, **places)


async def test_what_is_published_is_what_is_handled_shown_and_found(
    settings: Settings, registry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each way the same value, down to the last digit, with the registry's codec on every topic and in Redis."""
    prefix = f"values-{uuid.uuid4().hex[:8]}-"
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", prefix)
    foreign = Foreign(settings.kafka, prefix, registry)
    async with running(settings) as app:
        found = await held(app, (*OWN_WAYS, *foreign.ways))
    with capsys.disabled():
        sys.stdout.write(f"\nKafka, registry and Redis: {found}\n")
