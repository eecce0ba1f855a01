"""Tools for tests: given/when/then, the virtual clock, planned faults, the conformance suites."""

from choreo.testing.faults import Fault, Faults, FaultyBackend
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

__all__ = [
    "EventLike",
    "Fault",
    "Faults",
    "FaultyBackend",
    "Scenario",
    "child_ended",
    "children",
    "duplicate",
    "elapsed",
    "event",
    "foreign",
    "given",
    "undo",
]
