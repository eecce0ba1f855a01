"""A broker and a Redis for this folder, and the reference flow's real processes on them, apart from other tests'."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from choreo.settings import load
from choreo.wiring import open_app
from tests.members.scene import Scene
from tests.support import required
from tests.support.fleet import ROOT, Fleet
from tests.support.redis_server import OwnRedis


class Servers(NamedTuple):
    """Where they answer."""

    kafka: str
    redis: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both running."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis = OwnRedis(tmp_path_factory.mktemp("redis"))
        redis.start()
        yield Servers(broker.bootstrap, redis.url)
        redis.stop()


@pytest.fixture
async def scene(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Topics, keys, books and a fleet of this test's own; nothing runs yet."""
    values = {
        "CHOREO_KAFKA": servers.kafka,
        "CHOREO_KAFKA_TOPIC_PREFIX": f"test-{uuid.uuid4().hex[:8]}-",
        "CHOREO_REDIS": servers.redis,
        "CHOREO_DATA": str(tmp_path / "data"),
        "CHOREO_BOOKS_DIR": str(tmp_path / "books"),
    }
    monkeypatch.chdir(ROOT)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    fleet = Fleet(tmp_path, values)
    async with open_app(load()) as app:
        assert app.kafka is not None
        await app.kafka.make_topics()
        try:
            yield Scene(app, fleet, tmp_path / "books")
        finally:
            fleet.kill_all()
