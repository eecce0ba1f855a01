"""The modelled Kafka and Redis pass the ports' suites, as a process sees them through its network.

Left out: the sharing of partitions by silence. On the model a member is as alive as its process is, and nobody polls
for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from choreo.adapters.avro.codec import AvroCodec
from choreo.core.errors import LeaseLostError
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC, Backend, event
from choreo.testing.conformance.consumer import PARTITIONS, CommitSuite, PollSuite, joined
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.log import LogSuite
from choreo.testing.conformance.projections import ProjectionsSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.state import StatesSuite
from choreo.testing.conformance.stores import StoresSuite
from choreo.testing.simulation.backend import ProcessBackend
from choreo.testing.simulation.clock import LoopClock
from choreo.testing.simulation.cluster import Cluster
from choreo.testing.simulation.loop import SimulationLoop
from choreo.testing.simulation.network import Network


class SteppedClock(LoopClock):
    """A process's clock that a test moves."""

    def __init__(self, loop: SimulationLoop, clock: VirtualClock) -> None:
        """Follow `clock`."""
        super().__init__(loop)
        self._clock = clock
        vars(self)["sleep"] = clock.sleep

    def now_ms(self) -> int:
        """Return the time of day."""
        return self._clock.now_ms() + self.skew_ms

    def elapsed_ms(self) -> int:
        """Return the time since the beginning."""
        return self._clock.elapsed_ms()


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the model."""
    return VirtualClock()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, clock: VirtualClock) -> Cluster:
    """Return an empty cluster: commits have the order of Kafka's, or are one transaction in a class that says so."""
    is_atomic = getattr(request.cls, "is_atomic", False)
    stepped = partial(SteppedClock, clock=clock)
    return Cluster(SimulationLoop(), {}, linger_ms=0, is_atomic=is_atomic, make_clock=stepped)


@pytest.fixture
def backend(cluster: Cluster) -> ProcessBackend:
    """Return one process's view of the cluster."""
    return ProcessBackend(cluster, Network("one"), AvroCodec(None))


@pytest.fixture
def projected(backend: ProcessBackend) -> ProcessBackend:
    """Return the same view."""
    return backend


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""


class TestPoll(PollSuite):
    """The records that a poll returns."""


class TestCommit(CommitSuite):
    """One commit, everything in it, as `FlowTest` has it."""

    is_atomic = True

    async def test_commits_made_together_do_not_fail_each_other(  # type: ignore[override]
        self, backend: Backend, clock: VirtualClock, cluster: Cluster
    ) -> None:
        """As in the suite, in any order: here the brokers expel a dead process, and do not wait for its silence."""
        zombie = await joined(backend, "a")
        cluster.groups.expel("a")
        await clock.advance(LEASE_S)
        successor = await joined(backend, "b")
        results = await asyncio.gather(
            zombie.commit(CommitBatch([event("e-1")], {0: 1})),
            successor.commit(CommitBatch([event("e-2")], {0: 1})),
            backend.log.append(TOPIC, [event("e-3")]),
            return_exceptions=True,
        )
        assert [isinstance(result, LeaseLostError) for result in results] == [True, False, False]
        written = {r.event.id for p in range(PARTITIONS) for r in await backend.log.read(TOPIC, p, 0, 10)}
        assert written == {"e-2", "e-3"}


class TestInbox(InboxSuite):
    """The attempts and outcomes that a service remembers."""


class TestLostInbox:
    """The loss of an inbox, as the suite of stores on a server has it."""

    test_lost_gates_are_not_taken_for_none = StoresSuite.test_lost_gates_are_not_taken_for_none

    @pytest.fixture
    def stores(self, backend: ProcessBackend) -> ProcessBackend:
        """Return the view of one process."""
        return backend

    @pytest.fixture
    def lose(self, cluster: Cluster) -> Callable[[], Awaitable[object]]:
        """Return a function that empties the inbox, as a Redis without its file does."""

        async def empty() -> None:
            cluster.inbox("mail").empty()

        return empty


class TestDeadLetters(DeadLettersSuite):
    """The records that could not be handled."""


class TestStates(StatesSuite):
    """The states that the tracker keeps."""


class TestProjections(ProjectionsSuite):
    """The store of the projector."""


class TestReadModel(ReadModelSuite):
    """The runs as people see them, filled by the tracker's commits."""

    is_atomic = True
