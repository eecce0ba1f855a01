"""A broker and a Redis for this folder, and the reference flow's real processes on them, apart from other tests'."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from choreo.adapters.topics_yaml import topic_text
from choreo.settings import load
from choreo.wiring import open_app
from choreo.wiring.flows import load_flows
from tests.kafka.harness import Harness
from tests.support.fleet import FLOWS, ROOT, Fleet
from tests.support.redis_server import OwnRedis

OnKafka: TypeAlias = Callable[[Sequence[str], int], dict[str, str]]


class Servers(NamedTuple):
    """Where they answer."""

    kafka: str
    redis: str


@pytest.fixture(scope="session")
def servers(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Return where both answer: the tests' broker, and a Redis of this folder."""
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    redis.start()
    yield Servers(kafka, redis.url)
    redis.stop()


@pytest.fixture
def on_kafka(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnKafka:
    """Return a function that puts flows in topics of this test's own, with so many partitions, and returns settings."""

    def put(flows: Sequence[str], partitions: int) -> dict[str, str]:
        (tmp_path / "topics").mkdir()
        for flow in load_flows(tuple(flows)).values():
            text = topic_text(flow.draft(), partitions=partitions, owner="tests")
            (tmp_path / "topics" / f"{flow.name}.yaml").write_text(text)
        values = {
            "CHOREO_KAFKA": servers.kafka,
            "CHOREO_REDIS": servers.redis,
            "CHOREO_KAFKA_TOPIC_PREFIX": f"test-{uuid.uuid4().hex[:8]}-",
            "CHOREO_FLOWS": ",".join(flows),
            "CHOREO_TOPICS": str(tmp_path / "topics"),
            "CHOREO_SCHEMAS": str(tmp_path / "schemas"),
            "CHOREO_DATA": str(tmp_path / "data"),
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return values

    return put


@pytest.fixture
def stores(servers: Servers) -> dict[str, str]:
    """Return the settings that name the stores beside the log; a module may have others."""
    return {"CHOREO_REDIS": servers.redis}


@pytest.fixture
async def harness(
    servers: Servers, stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    """Yield topics, keys, books and a fleet of this test's own; nothing runs yet."""
    values = {
        "CHOREO_FLOWS": FLOWS,
        "CHOREO_KAFKA": servers.kafka,
        "CHOREO_KAFKA_TOPIC_PREFIX": f"test-{uuid.uuid4().hex[:8]}-",
        **stores,
        "CHOREO_DATA": str(tmp_path / "data"),
        "CHOREO_BOOKS_DIR": str(tmp_path / "books"),
    }
    monkeypatch.chdir(ROOT)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    fleet = Fleet(tmp_path, values)
    async with open_app(load()) as app:
        await app.backend.create_topics()
        try:
            yield Harness(app, fleet, tmp_path / "books")
        finally:
            fleet.kill_all()
