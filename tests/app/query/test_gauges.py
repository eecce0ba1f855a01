"""Numbers of open runs, timers and groups for metrics: bounded reads, kept for some seconds."""

from __future__ import annotations

import pytest

from choreo.app.metrics import CATALOGUE
from choreo.app.query.gauges import KEPT_MS, Gauges
from choreo.testing.clock import VirtualClock
from tests.app.harness import Shop


async def passed(shop: Shop, duration_s: float) -> None:
    """Let time pass."""
    assert isinstance(shop.clock, VirtualClock)
    await shop.clock.advance(duration_s)


async def values(shop: Shop, gauges: Gauges | None = None) -> dict[tuple[str, ...], float]:
    """Return the numbers by name and label values, the flow left out."""
    found = await (gauges or Gauges(shop.queries)).of("order")
    for number in found:
        assert tuple(number.labels) == CATALOGUE[number.name].labels, number
    return {(number.name, *list(number.labels.values())[1:]): number.value for number in found}


async def test_steps_that_runs_wait_for_and_the_age_of_the_oldest() -> None:
    """Two orders wait for their stock, one for a minute longer."""
    shop = await Shop().open()
    await shop.start("o-1")
    await passed(shop, 60)
    await shop.start("o-2")
    await shop.track()
    await passed(shop, 5)
    found = await values(shop)
    assert found["expected_steps", "stock.reserve"] == 2
    assert found["expected_oldest_age_seconds", "stock.reserve"] == pytest.approx(65, abs=2)
    assert found["runs_unbalanced",] == 0
    assert found["timers_overdue",] == 0


async def test_effects_by_state() -> None:
    """A charged order has two effects, open; a compensated one leaves none, and is balanced."""
    shop = await Shop().open()
    await shop.charged("o-1")
    await shop.compensated("o-2")
    await shop.track()
    found = await values(shop)
    assert {name[1:]: value for name, value in found.items() if name[0] == "effects"} == {
        ("stock.reserve", "open"): 1,
        ("payment.charge", "open"): 1,
    }
    assert found["runs_unbalanced",] == 0


async def test_a_timer_that_no_tracker_has_published_is_overdue() -> None:
    """The tracker is away for longer than the flow's deadline."""
    shop = await Shop().open()
    await shop.start("o-1")
    await shop.track()
    assert (await values(shop))["timers_overdue",] == 0
    await passed(shop, 100 * 86_400)
    found = await values(shop)
    assert found["timers_overdue",] == 1
    assert found["timer_oldest_overdue_seconds",] > 86_400


async def test_records_that_the_read_model_lacks_have_an_age() -> None:
    """Nothing has folded the start for a minute."""
    shop = await Shop().open()
    await shop.start("o-1")
    await shop.track()
    assert (await values(shop))["read_model_lag_seconds",] == 0
    await shop.publisher.publish("order", {"order_id": "o-2"}, type_="OrderPlaced")
    await passed(shop, 60)
    assert (await values(shop))["read_model_lag_seconds",] == pytest.approx(60, abs=2)


async def test_members_of_groups_and_their_changes() -> None:
    """A service without a process has none; one that joins is a change."""
    shop = await Shop().open()
    gauges = Gauges(shop.queries)
    assert (await values(shop, gauges))["group_members", "stock"] == 0
    consumer = await shop.backend.log.consumer("order", "stock", "stock-pod")
    await consumer.poll(10, 0)
    await passed(shop, KEPT_MS / 1_000)
    found = await values(shop, gauges)
    assert (found["group_members", "stock"], found["group_changes", "stock"]) == (1, 1)
    assert found["group_last_progress_timestamp_seconds", "stock"] > 0


async def test_numbers_are_kept_for_some_seconds() -> None:
    """Two scrapes at once cost one read; the next one sees the news."""
    shop = await Shop().open()
    gauges = Gauges(shop.queries)
    await shop.start("o-1")
    await shop.track()
    assert (await values(shop, gauges))["expected_steps", "stock.reserve"] == 1
    await shop.start("o-2")
    await shop.track()
    assert (await values(shop, gauges))["expected_steps", "stock.reserve"] == 1
    await passed(shop, KEPT_MS / 1_000)
    assert (await values(shop, gauges))["expected_steps", "stock.reserve"] == 2
