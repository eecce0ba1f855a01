"""Stores on a server are tried beside the log in memory."""

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the backend under test."""
    return VirtualClock()


@pytest.fixture
def beside(clock: VirtualClock) -> MemoryBackend:
    """Return the backend with the log beside the stores."""
    return MemoryBackend(clock, lease_s=LEASE_S)
