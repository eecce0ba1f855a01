"""A process that has to end, and the report in its last lines."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from choreo.core.errors import LostStorageError
from choreo.settings import load
from choreo.testing.clock import VirtualClock
from choreo.testing.faults import FaultyBackend
from choreo.wiring import open_app, run


async def test_a_service_that_is_stopped_for_a_lost_file_reports_no_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last poll fails, the next one has no answer yet, and the process ends: nothing is available again."""
    caplog.set_level(logging.INFO)
    settings = load(flows=("bench.saga:order",), partitions=1, topics=tmp_path / "none")
    clock = VirtualClock()
    async with open_app(settings, memory=True, clock=clock) as app:
        app.backend = backend = FaultyBackend(app.backend)
        failing = backend.faults.fail("consumer.poll", times=None)
        running = asyncio.create_task(run(app, ["payment"], asyncio.Event()))
        while len(failing.calls) < 2:
            await clock.advance(0.1)
        hanging = backend.faults.hold("consumer.poll")
        failing.lift()
        while not hanging.calls:
            await clock.advance(0.1)
        backend.faults.fail("check", LostStorageError("the file was deleted", where="choreo.db"), times=None)
        while not running.done():
            await clock.advance(0.1)
        with pytest.raises(LostStorageError):
            await running
    assert [line for line in caplog.messages if line.startswith("service payment in order is unavailable")]
    assert not [line for line in caplog.messages if "available again" in line]
