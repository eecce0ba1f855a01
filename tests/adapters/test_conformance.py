"""Both embedded backends pass every port's suite."""

import pytest

from choreo.core.errors import LeaseLostError
from choreo.ports.inbox import Outcome, RunMark
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC, Backend, event
from choreo.testing.conformance.attributes import AttributesSuite
from choreo.testing.conformance.consumer import PARTITIONS, CommitSuite, PollSuite, SharingSuite, joined
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.log import LogSuite
from choreo.testing.conformance.notes import Noted, NotesSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.state import StatesSuite


@pytest.fixture
def noted(backend: Noted) -> Noted:
    """Return an empty backend for the suite of notes."""
    return backend


class TestNotes(NotesSuite):
    """Small named texts."""


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""


class TestPoll(PollSuite):
    """The records that a poll returns."""


class TestSharing(SharingSuite):
    """The assignment of partitions."""


class TestCommit(CommitSuite):
    """One commit, everything in it."""

    async def test_a_commit_of_a_zombie_leaves_nothing(self, backend: Backend, clock: VirtualClock) -> None:
        """Neither in the inbox nor in the log or the dead letters: its partitions belong to another member now."""
        zombie = await joined(backend, "a")
        await clock.advance(LEASE_S * 2)
        await joined(backend, "b")
        outcome = Outcome("t-1", "charge", "r-1", [event("o-1", type_="PaymentCharged")], success=True)
        work = CommitBatch([event("x-1")], {0: 1}, [outcome], marks={"r-1": RunMark(compensating=True)})
        with pytest.raises(LeaseLostError, match="belong to another member"):
            await zombie.commit(work)
        assert await backend.inbox("payment").recorded([("t-1", "charge")]) == {}
        assert await backend.inbox("payment").marks(["r-1"]) == {}
        assert [await backend.log.end(TOPIC, partition) for partition in range(PARTITIONS)] == [0, 0, 0, 0]


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
