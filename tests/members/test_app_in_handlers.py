"""On Kafka and Redis the App's publisher and queries work inside handlers, async and plain."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from choreo.settings import load
from tests.members.conftest import Servers
from tests.support.asking import FOUND, Asking

TOPIC = """
name: asking
key: key
partitions: 2
retention: forever
owner: tests
events: [Asked, Passed, Told]
dead_letters: {name: asking.dead-letters, partitions: 1, retention: forever}
"""


async def test_handlers_publish_and_ask_through_the_app(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the handlers' own loop and in threads; what is refused is raised there as what it is."""
    asking = Asking()
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", f"asking-{uuid.uuid4().hex[:8]}-")
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "asking.yaml").write_text(TOPIC)
    settings = load(
        flows=("asking_project:flow",),
        kafka=servers.kafka,
        redis=servers.redis,
        data=tmp_path / "data",
        topics=tmp_path / "topics",
        schemas=tmp_path / "schemas",
        partitions=2,
    )
    assert await asking.play(settings) == FOUND
