"""Two flows, of `carrying` or of `parcels`, with bridges as processes that are killed and restarted amid their work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from choreo.settings import load
from choreo.wiring import App
from tests.support.carrying import OrderPlaced
from tests.support.fleet import Fleet
from tests.support.parcels import OrderPlaced as ParcelsOrdered
from tests.support.parcels_project import parcels
from tests.support.patience import PATIENCE_S
from tests.support.running import ended, events, running, until

ORDERS = 120


class Two:
    """The two flows: every role but the bridge here, bridges as processes."""

    def __init__(self, app: App, fleet: Fleet) -> None:
        self.app = app
        self.fleet = fleet

    async def place(self, *keys: str) -> list[Any]:
        """Publish orders; return the receipts."""
        return [await self.app.publisher.publish("orders", OrderPlaced(order_id=key)) for key in keys]

    async def until(self, true: Callable[[], Awaitable[bool]], flow: str = "invoices") -> None:
        """Wait for a fact of the log."""
        await until(self.app, true, flow, PATIENCE_S)

    async def asked(self, least: int) -> bool:
        """Return whether so many invoices are requested."""
        return sum(map(len, (await events(self.app, "invoices", "InvoiceRequested")).values())) >= least


@asynccontextmanager
async def project(fleet: Fleet) -> AsyncIterator[Two]:
    """Run every role but the bridge in this process; the environment has the settings."""
    async with running(load(), without=("bridge",)) as app:
        try:
            yield Two(app, fleet)
        finally:
            fleet.kill_all()


async def orders_go_on(two: Two) -> None:
    """Place orders while one of two bridges is killed, the other stopped in order, and a third started."""
    first, second = two.fleet.start("bridge"), two.fleet.start("bridge")
    keys = [f"o-{number}" for number in range(ORDERS)]
    receipts = await two.place(*keys[:40])
    await two.until(lambda: two.asked(1))
    two.fleet.kill(first)
    receipts += await two.place(*keys[40:80])
    await two.until(lambda: two.asked(41))
    second.process.terminate()
    assert await asyncio.to_thread(second.process.wait, PATIENCE_S) == 0, second.last_words
    receipts += await two.place(*keys[80:])
    two.fleet.start("bridge")
    for key, receipt in zip(keys, receipts, strict=True):
        assert await ended(two.app, receipt.position, key, "orders") == "completed"
    for flow, type_ in (("invoices", "InvoiceRequested"), ("orders", "InvoicePaid")):
        found = {key: len(ids) for key, ids in (await events(two.app, flow, type_)).items()}
        assert found == {f"i-{key}" if flow == "invoices" else key: 1 for key in keys}
    assert (await two.app.queries.counts("invoices"))["completed"] == len(keys)
    assert await two.app.queries.dead_letters() == []


async def parcels_ship(two: Two) -> None:
    """Ship 40 boxes of one order while its bridges are killed, and recall those of another one."""
    parcels.booked.clear()
    first, second = two.fleet.start("bridge"), two.fleet.start("bridge")
    good = await two.app.publisher.publish("order", ParcelsOrdered(order_id="o-1", boxes=40))
    bad = await two.app.publisher.publish("order", ParcelsOrdered(order_id="o-2", boxes=6, refused=[5]))
    await two.until(lambda: _booked(1), "parcel")
    two.fleet.kill(first)
    await two.until(lambda: _booked(12), "parcel")
    two.fleet.kill(second)
    two.fleet.start("bridge")
    assert await ended(two.app, good.position, "o-1", "order") == "completed"
    assert await ended(two.app, bad.position, "o-2", "order") == "compensated"
    assert {key for key, is_booked in parcels.booked.items() if is_booked} == {f"o-1-{box}" for box in range(40)}
    for key, ids in (await events(two.app, "parcel", "ParcelRequested")).items():
        assert len(ids) == 1, key
    assert await two.app.queries.dead_letters() == []


async def _booked(least: int) -> bool:
    return len(parcels.booked) >= least
