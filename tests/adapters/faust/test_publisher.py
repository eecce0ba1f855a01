"""A cluster that is away is reported under the tracker's own name, which no other part of the process clears."""

import asyncio

from choreo.adapters.faust.publisher import Publisher
from choreo.adapters.memory import MemoryBackend
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import StorageError
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC, event
from choreo.testing.faults import FaultyBackend


async def test_facts_are_published_once_the_cluster_is_back() -> None:
    """Until then the tracker reports it; a look at the log's identity that succeeds does not take that back."""
    # given a log that does not take facts
    clock = VirtualClock()
    inner = MemoryBackend(clock, lease_s=LEASE_S)
    backend, reports = FaultyBackend(inner), DependencyReports(clock)
    counts: dict[str, float] = {}
    await inner.log.create(TOPIC, 1)
    backend.faults.fail("log.append", StorageError("away", where="topic 'order'"), times=2)
    publisher = Publisher(TOPIC, backend.log, backend.dead_letters, clock, reports, counts.__setitem__)
    # when
    publishing = asyncio.ensure_future(publisher.facts([event("e-1")]))
    await clock.advance(0.01)
    reports.clear(f"log of {TOPIC}")
    # then
    assert [each.name for each in reports.all()] == [f"tracker of {TOPIC}"]
    assert counts == {"storage_errors": 1}
    await clock.advance(10)
    await publishing
    assert reports.all() == []
    assert [record.event.id for record in await inner.log.read(TOPIC, 0, 0, 10)] == ["e-1"]
