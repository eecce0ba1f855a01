"""Both embedded backends pass every port's suite."""

import pytest

from choreo.testing.conformance.attributes import AttributesSuite
from choreo.testing.conformance.consumer import CommitSuite, PollSuite, SharingSuite
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
