"""On Kafka the bridge is a process of its own: killed amid its work and restarted, it loses and doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kafka.conftest import OnKafka
from tests.support.bridging import Two, orders_go_on, parcels_ship, project
from tests.support.carrying import FLOWS
from tests.support.fleet import Fleet
from tests.support.parcels_project import FLOWS as PARCELS_FLOWS
from tests.support.patience import PATIENCE_S
from tests.support.running import ended, events


@pytest.fixture(params=[FLOWS], ids=["carried"])
async def two(request: pytest.FixtureRequest, on_kafka: OnKafka, tmp_path: Path) -> AsyncIterator[Two]:
    """Yield the project with its services, tracker and projector at work; no bridge runs."""
    async with project(Fleet(tmp_path, on_kafka(request.param, 4))) as running:
        yield running


async def test_orders_go_on_while_bridges_are_killed_and_restarted(two: Two) -> None:
    """Each order has one invoice, and each invoice is paid back once: what stands twice has one id."""
    await orders_go_on(two)


@pytest.mark.parametrize("two", [PARCELS_FLOWS], indirect=True, ids=["children"])
async def test_child_flows_go_on_while_bridges_are_killed(two: Two) -> None:
    """Forty boxes within a window of four are shipped, and those of an order with a refused one are recalled."""
    await parcels_ship(two)


async def test_the_backlog_of_a_bridge_that_does_not_run_is_shown(two: Two) -> None:
    """And it is gone once a bridge has run."""
    (receipt,) = await two.place("o-1")
    await two.until(lambda: _is_accepted(two))
    assert await _behind(two) > 0
    two.fleet.start("bridge")
    assert await ended(two.app, receipt.position, "o-1", "orders") == "completed"
    await two.until(lambda: _is_done(two))


async def test_a_dead_letter_is_redriven_to_a_corrected_bridge(two: Two) -> None:
    """The process with the fault is replaced, as by a deployment."""
    faulty = two.fleet.start("bridge", TEST_REFUSED="1000")
    (receipt,) = await two.place("o-1")
    await two.until(lambda: _is_dead(two))
    (dead,) = await two.app.queries.dead_letters("orders")
    assert (dead.service, dead.step) == ("bridge", "bridge.invoices.OrderAccepted")
    assert "no rate for 1000 cents" in dead.cause
    faulty.process.terminate()
    assert await asyncio.to_thread(faulty.process.wait, PATIENCE_S) == 0, faulty.last_words
    two.fleet.start("bridge")
    await two.app.operator.redrive(dead.id)
    assert await ended(two.app, receipt.position, "o-1", "orders") == "completed"


async def _is_dead(two: Two) -> bool:
    return bool(await two.app.queries.dead_letters("orders"))


async def _is_accepted(two: Two) -> bool:
    return bool(await events(two.app, "orders", "OrderAccepted"))


async def _is_done(two: Two) -> bool:
    return not await _behind(two)


async def _behind(two: Two) -> int:
    return sum(lag.behind for lag in await two.app.queries.lags("orders") if lag.group == "bridge")
