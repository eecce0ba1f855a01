"""Every process of every service is restarted under load, one after the other: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress

from choreo.core import facts
from schemas.orders import OrderPlaced
from services import audit
from services.demo import COMPENSATED, COMPLETED, Demo, Placed
from tests.crash.environment import Environment
from tests.kafka.harness import Harness, shared
from tests.support.fleet import SERVICES, Worker

KINDS = {"all well", "card declined", "out of stock", "no delivery there"}
"""Orders that need no time of their own, some of which are undone."""
PAUSE_S = 0.2
"""Between orders: five a second, all the time."""
STALL_S = 60.0
"""The longest an order may take: a restart that leaves a partition without its member lets it wait for ever."""

Recorded = Callable[[str, object], None]


async def test_a_rolling_restart_under_load_loses_and_doubles_nothing(
    harness: Harness, record_testsuite_property: Recorded
) -> None:
    """Orders go on being placed and completed; no handler runs twice, for each process finishes its attempts."""
    demo = Demo()
    outside = Environment(harness.app, demo)
    pairs = {role: (harness.fleet.start(role), harness.fleet.start(role)) for role in SERVICES}
    trackers = harness.fleet.start("tracker"), harness.fleet.start("tracker")
    for pair in (*pairs.values(), trackers):
        await harness.until(lambda pair=pair: shared(*pair), "all have their shares")
    picking = asyncio.create_task(outside.pick())
    rolled = asyncio.Event()
    placing = asyncio.create_task(_place_steadily(outside, demo, rolled))
    restarts = 0
    for role, (first, second) in pairs.items():
        third = await _replaced(harness, first, second)
        await _replaced(harness, second, third)
        restarts += 2
        assert not placing.done(), f"orders were no longer placed when {role} was restarted"
    rolled.set()
    placed = await placing
    ends = {order.event.order_id: order.kind.ends for order in placed}
    await harness.until(lambda: _ended(harness, set(ends)), "every order has ended")
    outside.stop.set()
    await picking
    assert restarts == 2 * len(SERVICES)
    assert await _outcomes(harness) == ends
    assert audit.audit(harness.books, ends) == []
    assert _calls_made_twice(harness) == []
    longest_s, count = await _longest(harness)
    record_testsuite_property("rolling restart: orders, longest s", f"{count} of {len(ends)}, {longest_s:.1f}")
    assert longest_s <= STALL_S


async def _place_steadily(outside: Environment, demo: Demo, enough: asyncio.Event) -> list[Placed]:
    placed: list[Placed] = []
    orders = (order for order in demo.orders(10_000) if order.kind.name in KINDS)
    while not enough.is_set():
        placed.append(next(orders))
        await outside.place(placed[-1])
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), PAUSE_S)
    return placed


async def _replaced(harness: Harness, old: Worker, duplicate: Worker) -> Worker:
    """Stop one, start another of its kind, and let it have its share."""
    await harness.stop(old)
    new = harness.fleet.start(old.role)
    await harness.until(lambda: shared(new, duplicate), f"the new {old.role} has its share")
    return new


async def _ended(harness: Harness, keys: set[str]) -> bool:
    return set(await _outcomes(harness)) >= keys


async def _outcomes(harness: Harness) -> dict[str, str]:
    """Return how each order has ended, by the log."""
    words = {facts.FLOW_COMPLETED: COMPLETED, facts.FLOW_COMPENSATED: COMPENSATED}
    return {r.event.key: words[r.event.type] for r in await harness.log() if r.event.type in words}


async def _longest(harness: Harness) -> tuple[float, int]:
    """Return the longest time of an order from its start to its confirmation, and how many were confirmed."""
    stamps: dict[str, dict[str, int]] = {}
    for record in await harness.log():
        stamps.setdefault(record.event.key, {}).setdefault(record.event.type, record.stamp_ms)
    took_ms = [at["OrderConfirmed"] - at[OrderPlaced.event_type] for at in stamps.values() if "OrderConfirmed" in at]
    return max(took_ms) / 1_000, len(took_ms)


def _calls_made_twice(harness: Harness) -> list[tuple[str, str, str]]:
    """Return calls to an outside system under one key that came more than once: handlers that ran again."""
    found: Counter[tuple[str, str, str]] = Counter()
    for book in ("bank", "warehouse", "carrier"):
        with closing(sqlite3.connect(harness.books / f"{book}.sqlite", timeout=30)) as db:
            for operation, key, count in db.execute("SELECT operation, key, count FROM calls"):
                found[book, operation, key] += count
    assert found, "the books hold no call"
    return [call for call, count in found.items() if count > 1]
