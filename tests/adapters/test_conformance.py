"""Both embedded backends pass every port's suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.sqlite import SqliteBackend
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S
from choreo.testing.conformance.attributes import AttributesSuite
from choreo.testing.conformance.consumer import CommitSuite, PollSuite, SharingSuite
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.log import LogSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.state import StatesSuite


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the backend under test."""
    return VirtualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock
) -> AsyncIterator[MemoryBackend | SqliteBackend]:
    """Yield an empty backend."""
    if request.param == "memory":
        yield MemoryBackend(clock, lease_s=LEASE_S)
        return
    opened = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock, lease_s=LEASE_S, synchronous="NORMAL")
    yield opened
    await opened.close()


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""


class TestPoll(PollSuite):
    """The records that a poll returns."""


class TestSharing(SharingSuite):
    """The assignment of partitions."""


class TestCommit(CommitSuite):
    """One commit, everything in it."""


class TestInbox(InboxSuite):
    """The attempts and outcomes that a service remembers."""


class TestDeadLetters(DeadLettersSuite):
    """The records that could not be handled."""


class TestStates(StatesSuite):
    """The states that the tracker keeps."""


class TestReadModel(ReadModelSuite):
    """The runs as people see them."""


class TestAttributes(AttributesSuite):
    """The search attributes of runs."""
