"""Both embedded homes pass every port's suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from choreo.adapters.memory import MemoryHome
from choreo.adapters.sqlite import SqliteHome
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.log import LogSuite
from choreo.testing.conformance.member import CommitSuite, PollSuite, SharingSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.state import StatesSuite


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of the home under test."""
    return VirtualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def home(
    request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock
) -> AsyncIterator[MemoryHome | SqliteHome]:
    """An empty home."""
    if request.param == "memory":
        yield MemoryHome(clock, lease_s=LEASE_S)
        return
    opened = await SqliteHome.open(tmp_path / "choreo.db", clock=clock, lease_s=LEASE_S, synchronous="NORMAL")
    yield opened
    await opened.close()


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""


class TestPoll(PollSuite):
    """What a poll brings."""


class TestSharing(SharingSuite):
    """Who owns what."""


class TestCommit(CommitSuite):
    """One commit, everything in it."""


class TestInbox(InboxSuite):
    """What a service remembers."""


class TestDeadLetters(DeadLettersSuite):
    """What could not be handled."""


class TestStates(StatesSuite):
    """What the tracker keeps."""


class TestReadModel(ReadModelSuite):
    """What people see."""
