"""The embedded backends; stores on a server are tried beside the log in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.sqlite import SqliteBackend
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
