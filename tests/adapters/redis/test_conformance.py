"""Redis passes the suites of the inbox, the read model and the projections; so does the backend in memory."""

from dataclasses import dataclass

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.ports.log import Log
from choreo.ports.projections import Projections
from choreo.ports.read_model import ReadModel
from choreo.testing.conformance.attributes import AttributesSuite
from choreo.testing.conformance.inbox import InboxSuite
from choreo.testing.conformance.notes import NotesSuite
from choreo.testing.conformance.projections import ProjectionsSuite
from choreo.testing.conformance.read_model import ReadModelSuite
from choreo.testing.conformance.stores import StoresSuite
from tests.support.beside_the_log import BesideTheLog, ProjectedLog


@dataclass
class MemoryProjected:
    """The backend in memory with its log."""

    log: Log
    projections: Projections
    read_model: ReadModel


@pytest.fixture
def backend(stores: RedisStores, beside: MemoryBackend) -> BesideTheLog:
    """Return an empty backend for the suites of reading."""
    return BesideTheLog(stores, ProjectedLog(beside.log, stores.projections))


@pytest.fixture(params=["memory", "redis"])
def projected(request: pytest.FixtureRequest, beside: MemoryBackend) -> BesideTheLog | MemoryProjected:
    """Return an empty backend for the suite of writing."""
    if request.param == "memory":
        return MemoryProjected(beside.log, beside.projections, beside.projections.read_model)
    return BesideTheLog(request.getfixturevalue("stores"), beside.log)


@pytest.fixture
def noted(stores: RedisStores) -> RedisStores:
    """Return empty stores for the suite of notes."""
    return stores


class TestNotes(NotesSuite):
    """Small named texts."""


class TestInbox(InboxSuite):
    """The attempts and outcomes that a service remembers."""


class TestReadModel(ReadModelSuite):
    """The runs as people see them."""


class TestProjections(ProjectionsSuite):
    """The rows that a projector writes."""


class TestStores(StoresSuite):
    """Lists over all flows, and an inbox that is lost."""


class TestAttributes(AttributesSuite):
    """The search attributes of runs."""
