"""Runs in flight, judged by another declaration of their flow."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.app.query.deployment import VersionInFlight, versions_in_flight
from choreo.app.query.flows import Flows
from choreo.app.query.queries import Queries
from choreo.testing.clock import VirtualClock
from tests.app.harness import Shop, shop

DAY_MS = 86_400_000


@pytest.fixture
async def waiting() -> Shop:
    """Return a shop with an order that has waited for its pick for four days, as its declaration allows."""
    known = await Shop().open()
    await known.charged("o-1")
    assert isinstance(known.clock, VirtualClock)
    await known.clock.advance(4 * DAY_MS / 1_000)
    return known


async def judged(known: Shop, deadline_ms: int) -> VersionInFlight:
    """Return the version in flight under this deadline of the flow."""
    flow = shop()
    flows = Flows({"order": replace(flow.draft(), deadline_ms=deadline_ms)}, {"order": flow.event_classes})
    backend = known.backend
    queries = Queries(flows, backend.log, backend.read_model, backend.dead_letters, known.codec, known.clock)
    (version,) = await versions_in_flight(queries, "order", flow.steps)
    return version


async def test_a_deadline_that_a_rebuild_would_take_as_past_is_refused(waiting: Shop) -> None:
    """A run of four days has not passed 30 days, and has passed three."""
    assert (await judged(waiting, 30 * DAY_MS)).stranded == []
    assert (await judged(waiting, 5 * DAY_MS)).stranded == []
    (finding,) = (await judged(waiting, 3 * DAY_MS)).findings
    assert finding.code == "C813"
    assert finding.what.startswith("the flow has a shorter deadline, and a rebuild would compensate")


async def test_a_pause_moves_times(waiting: Shop) -> None:
    """A run that was paused is not judged by the clock."""
    await waiting.operator.pause("order", "o-1")
    await waiting.track()
    assert (await judged(waiting, 3 * DAY_MS)).stranded == []
