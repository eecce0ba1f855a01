"""A real broker for the tests of this folder, started once, and logs on it that share nothing with each other."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.origin import Recall
from choreo.adapters.memory import MemoryHome
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Work
from choreo.testing.clock import VirtualClock
from tests.support import required

OpenLog = Callable[..., KafkaLog]

QUICK = {
    # As short as a broker allows: tests are about what follows, not about how long it takes.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "200",
    "max.poll.interval.ms": "6000",
}


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a broker answers: CHOREO_TEST_KAFKA if it is set, else one of the tests' own."""
    with required.bootstrap(tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of the stores beside the log; the log's own is the broker's."""
    return VirtualClock()


@pytest.fixture
def memory(clock: VirtualClock) -> MemoryHome:
    """The stores beside the log."""
    return MemoryHome(clock)


@pytest.fixture
async def open_log(kafka: str, memory: MemoryHome) -> AsyncIterator[OpenLog]:
    """Opens logs on topics and groups of this test's own; settings are added to the quick ones."""
    prefix = f"test-{uuid.uuid4().hex[:8]}-"

    async def save(work: Work) -> None:
        memory.states.save(work.states)
        memory.read_model.save(work.views)

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
