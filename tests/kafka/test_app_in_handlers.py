"""On Kafka and Redis the App's publisher and queries work inside handlers, async and plain."""

from __future__ import annotations

from choreo.settings import load
from tests.kafka.conftest import OnKafka
from tests.support.asking import FOUND, Asking


async def test_handlers_publish_and_ask_through_the_app(on_kafka: OnKafka) -> None:
    """On the handlers' own loop and in threads; a refusal is raised there as its own error."""
    asking = Asking()
    on_kafka(("asking_project:flow",), 2)
    assert await asking.play(load()) == FOUND
