"""Logs on the tests' broker that share nothing with each other."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.cluster import log_identity
from choreo.adapters.kafka.cluster.log_identity import Recall
from choreo.adapters.memory import MemoryBackend
from choreo.cli.program import run
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from tests.support.redis_server import OwnRedis

OpenLog = Callable[..., KafkaLog]
Command = Callable[..., Awaitable[int]]

DESK = Path(__file__).parents[2] / "cli" / "desk"
"""A small project: flow `desk` with a topic of two partitions, and service `memberships`."""

QUICK = {
    # As short as a broker allows: tests are about the consequence, not about its duration.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "200",
    "max.poll.interval.ms": "6000",
}


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the stores beside the log; the log's own is the broker's."""
    return VirtualClock()


@pytest.fixture
def memory(clock: VirtualClock) -> MemoryBackend:
    """Return the stores beside the log."""
    return MemoryBackend(clock)


@pytest.fixture
async def open_log(kafka: str, memory: MemoryBackend) -> AsyncIterator[OpenLog]:
    """Yield a function that opens logs on topics and groups of this test's own, with quick settings and more."""
    prefix = f"test-{uuid.uuid4().hex[:8]}-"

    async def save(commit_batch: CommitBatch) -> None:
        memory.states.save(commit_batch.states)
        memory.read_model.save(commit_batch.views)

    async with AsyncExitStack() as stack:

        def opened(
            instance: str = "",
            still_s: float = 30.0,
            recall: Recall | None = None,
            dependencies: Dependencies | None = None,
            **settings: str,
        ) -> KafkaLog:
            given = {**QUICK, **{name.replace("_", "."): value for name, value in settings.items()}}
            log = KafkaLog(
                KafkaOptions(kafka, given, prefix=prefix, instance=instance, still_s=still_s),
                inbox=memory.inbox,
                save=save,
                recall=recall,
                dependencies=dependencies,
            )
            stack.push_async_callback(log.close)
            return log

        yield opened


@pytest.fixture
def admin(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AdminClient:
    """Return an administrator's client; processes look at their topics more often than every five seconds."""
    monkeypatch.setattr(log_identity, "LOOK_S", 0.2)
    return AdminClient({"bootstrap.servers": kafka, "log_level": 2})


@pytest.fixture
def choreo(kafka: str, open_log: OpenLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run a command in the small project, on this test's topics and a Redis of its own; returns its exit code."""
    redis = OwnRedis(tmp_path)
    redis.start()
    monkeypatch.chdir(DESK)
    monkeypatch.setenv("CHOREO_KAFKA", kafka)
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", open_log().options.prefix)
    monkeypatch.setenv("CHOREO_REDIS", redis.url)
    monkeypatch.setenv("CHOREO_DATA", str(tmp_path / "tracker"))
    yield lambda *arguments: asyncio.to_thread(run, arguments)
    redis.stop()
