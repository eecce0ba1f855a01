"""A host that waits for something, and reports it, is alive: to restart it would change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import ReplacedLogError, StorageError
from choreo.hosts.projector import ProjectorHost
from choreo.hosts.step.host import StepHost
from choreo.hosts.tracker import TrackerHost
from choreo.surfaces.rest.use_cases import POLL_AGE_S_MAX
from choreo.testing.clock import VirtualClock
from choreo.testing.faults import FaultyBackend
from tests.core.plain import flow, step
from tests.hosts.harness import payment

FLOW = flow(step("payment.charge", "Placed", "Charged", undone="Refunded"))
Make = Callable[[FaultyBackend, VirtualClock, DependencyReports], Any]

HOSTS: dict[str, Make] = {
    "service payment in order": lambda backend, clock, reports: StepHost(
        payment(),
        FLOW,
        backend.log,
        backend.inbox("payment"),
        backend.dead_letters,
        AvroCodec(),
        clock,
        name="one",
        dependencies=reports,
    ),
    "tracker of order": lambda backend, clock, reports: TrackerHost(
        FLOW, backend.log, backend.states, clock, name="one", attributes_of=lambda _: {}, dependencies=reports
    ),
    "projector of order": lambda backend, clock, reports: ProjectorHost(
        FLOW, backend.log, backend.projections, clock, name="one", attributes_of=lambda _: {}, dependencies=reports
    ),
}


@pytest.mark.parametrize("at_work", [False, True], ids=["from the start", "while it works"])
@pytest.mark.parametrize("error", [StorageError("away"), ReplacedLogError("made again")], ids=["away", "replaced"])
@pytest.mark.parametrize("role", HOSTS)
async def test_a_host_that_reports_what_it_waits_for_is_alive(role: str, error: StorageError, *, at_work: bool) -> None:
    """For as long as it lasts, for any fault; the age of its last sign of life stays below what /livez allows."""
    clock = VirtualClock()
    reports = DependencyReports(clock)
    backend = FaultyBackend(MemoryBackend(clock))
    await backend.log.create("order", 1)
    host = HOSTS[role](backend, clock, reports)
    operations = ("log.consumer", "consumer.poll")
    if not at_work:
        for operation in operations:
            backend.faults.fail(operation, error, times=None)
    running = asyncio.create_task(host.run())
    await clock.advance(5)
    for operation in operations:
        backend.faults.fail(operation, error, times=None)
    ages_ms = []
    for _ in range(4 * round(POLL_AGE_S_MAX)):
        await clock.advance(1)
        ages_ms.append(clock.now_ms() - host.polled_ms)
    reported = [one.name for one in reports.all()]
    stopping = asyncio.create_task(host.stop())
    while not running.done():
        await clock.advance(1)
    await stopping
    assert max(ages_ms) < POLL_AGE_S_MAX * 1_000
    assert reported == [role]
