"""Tools for tests: given/when/then, whole flows in virtual time, planned faults, the conformance suites."""

from choreo.testing.books import Books, KeyBarredError
from choreo.testing.faults import Fault, Faults, FaultyBackend
from choreo.testing.flow_test import FlowTest
from choreo.testing.given import (
    EventLike,
    Scenario,
    child_ended,
    children,
    duplicate,
    elapsed,
    event,
    foreign,
    given,
    undo,
)
from choreo.testing.simulation.errors import SimulationError
from choreo.testing.simulation.hooks import EndedRun, Hooks
from choreo.testing.verification.verify import Report, verify

__all__ = [
    "Books",
    "EndedRun",
    "EventLike",
    "Fault",
    "Faults",
    "FaultyBackend",
    "FlowTest",
    "Hooks",
    "KeyBarredError",
    "Report",
    "Scenario",
    "SimulationError",
    "child_ended",
    "children",
    "duplicate",
    "elapsed",
    "event",
    "foreign",
    "given",
    "undo",
    "verify",
]
