"""A flow made from a seed ends as it must on Kafka, Faust and Redis, while its processes are killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.audit import from_kafka
from tests.audit.reading import Evidence
from tests.kafka.conftest import OnKafka, Servers
from tests.support.fleet import Fleet
from tests.support.generated import FLOWS
from tests.support.generated_play import ends_as_it_must, use

SEED = 3
"""Every part that a seed can draw: parallel steps, a join, a wait, a timer, children and a plain step."""


async def test_a_generated_flow_ends_as_it_must_while_processes_are_killed(
    servers: Servers, on_kafka: OnKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on one database file."""
    use(monkeypatch, SEED, tmp_path / "books")
    fleet = Fleet(tmp_path, on_kafka(FLOWS, 4))

    def read(flow: str) -> Evidence:
        topic = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + flow
        return Evidence(from_kafka.facts(servers.kafka, topic), (), {}, ())

    await ends_as_it_must(fleet, SEED, read, ("projector",))
