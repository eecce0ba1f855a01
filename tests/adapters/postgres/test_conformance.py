"""PostgreSQL passes the suites of the inbox, the read model, and of the projector's side of it."""

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.ports.backend import Stores
from choreo.testing.conformance.attributes import AttributesSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.notes import NotesSuite
from choreo.testing.conformance.projections import ProjectionsSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.stores import StoresSuite
from tests.support.beside_the_log import BesideTheLog, ProjectedLog


@pytest.fixture
def backend(stores: Stores, beside: MemoryBackend) -> BesideTheLog:
    """Return an empty backend for the suites of reading."""
    return BesideTheLog(stores, ProjectedLog(beside.log, stores.projections))


@pytest.fixture
def projected(stores: Stores, beside: MemoryBackend) -> BesideTheLog:
    """Return an empty backend for the suite of writing."""
    return BesideTheLog(stores, beside.log)


@pytest.fixture
def noted(stores: Stores) -> Stores:
    """Return empty stores for the suite of notes."""
    return stores


class TestNotes(NotesSuite):
    """Small named texts."""


class TestInbox(InboxSuite):
    """A service's memory."""


class TestReadModel(ReadModelSuite):
    """The views."""


class TestProjections(ProjectionsSuite):
    """The projector's side."""


class TestStores(StoresSuite):
    """Lists over all flows, and an inbox that is lost."""


class TestAttributes(AttributesSuite):
    """The search attributes of runs."""
