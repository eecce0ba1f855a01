"""How soon a page shows an event: `python -m bench.page` opens a run in a real Chromium, and pauses and resumes it.

Counts from the event's stamp in the log to the frame that shows the new status, both by the clock of this machine. Also
how soon the page says that nothing fills the read model any more.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.browser import chromium
from tests.support.page_shop import Ordered
from tests.surfaces.web.harness import Site, Watched, site_in, watched

EVENTS = 100
PIXEL_MS_MAX = 500
BEHIND_MS_MAX = 2_000

_SHOWN = """status => new Promise(shown => {
    const look = () => document.querySelector('h1 .status').textContent === status
        ? requestAnimationFrame(() => shown(Date.now())) : requestAnimationFrame(look);
    look();
})"""
"""Resolves at the frame after the one in which the status was there: by then it is painted."""


async def event_to_pixel(site: Site, tab: Watched) -> list[int]:
    """Return the milliseconds from each event's stamp to the frame that shows it."""
    await site.start("bench-1")
    await site.seen("bench-1", "Charged")
    await tab.page.goto(site.run("bench-1"))
    await tab.shows("#stamp", "^True up to")
    found = []
    for number in range(EVENTS):
        act, status = (site.app.operator.pause, "paused") if number % 2 == 0 else (site.app.operator.resume, "running")
        shown = asyncio.create_task(tab.page.evaluate(_SHOWN, status))
        receipt = await act("order", "bench-1")
        record = (await site.app.backend.log.read("order", receipt.position.partition, receipt.position.offset, 1))[0]
        found.append(await shown - record.stamp_ms)
    return sorted(found)


async def said_behind(site: Site, tab: Watched) -> float:
    """Return the milliseconds from an event that nothing reads to the page's own words about it."""
    await tab.page.goto(f"{site.url}/flows/order")
    await tab.shows("#stamp", "^True up to")
    begun = time.monotonic()
    await site.app.publisher.publish("order", Ordered(order_id="late-1"))
    await tab.shows("#stamp", "not shown")
    return (time.monotonic() - begun) * 1_000


async def measure() -> None:
    """Print the figures beside their bounds."""
    async with chromium() as browser:
        with tempfile.TemporaryDirectory() as folder:
            async with site_in(Path(folder)) as site, watched(browser) as tab:
                found = await event_to_pixel(site, tab)
        p95 = found[round(0.95 * len(found)) - 1]
        median = statistics.median(found)
        print(f"event to pixel: median {median:g} ms, p95 {p95} ms (bound {PIXEL_MS_MAX} ms), n={EVENTS}")
        with tempfile.TemporaryDirectory() as folder:
            async with site_in(Path(folder), without={"tracker"}) as site, watched(browser) as tab:
                behind_ms = await said_behind(site, tab)
        print(f"says that it is behind after {behind_ms:.0f} ms (bound {BEHIND_MS_MAX} ms)")


if __name__ == "__main__":
    asyncio.run(measure())
