"""How soon a page shows an event: `python -m bench.page` opens a run in a real Chromium, and pauses and resumes it.

Counts from the event's stamp in the log to the frame that shows the new status, both by the clock of this machine. Also
how soon the page says that nothing fills the read model any more, how soon pages of a run with 20,000 events are
painted, and how long the picture of a flow with 60 boxes takes to draw.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from choreo import Event, Flow, Service, StepContext
from choreo.core.definition import FlowDefinition
from choreo.core.drawing.picture import picture
from choreo.core.events import Envelope
from tests.support.browser import chromium
from tests.support.page_shop import Ordered
from tests.support.patience import PATIENCE_S
from tests.surfaces.web.harness import Site, Watched, site_in, watched

EVENTS = 100
PIXEL_MS_MAX = 500
BEHIND_MS_MAX = 2_000
LONG = 20_000
"""Events of the run whose pages are painted."""
PAINTINGS = 15
PAINT_MS_MAX = 300
STEPS, DRAWN_MS_MAX = 20, 100
"""Steps in a row, each with its outcome and its undo: some 60 boxes."""

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


_PAINTED = """new Promise(shown => new PerformanceObserver(entries => {
    const first = entries.getEntriesByName('first-contentful-paint')[0];
    if (first) shown(first.startTime);
}).observe({type: 'paint', buffered: true}))"""


async def first_paints(site: Site, tab: Watched, events: int) -> dict[str, float]:
    """Return the median milliseconds from asking for a page of a long run to its first paint, by page."""
    run = await site.start("long-1")
    await site.seen("long-1", "Charged")
    data = {"content_type": "application/json", "data": b'{"order_id": "long-1"}'}
    for first in range(0, events, 1_000):
        numbers = range(first, min(events, first + 1_000))
        late = [Envelope(f"late-{number}", "Picked", "long-1", "order", run=run, **data) for number in numbers]  # type: ignore[arg-type]
        positions = await site.app.backend.log.append("order", late)
        await site.app.queries.reached(positions[-1], PATIENCE_S)
    found: dict[str, list[float]] = {}
    for _ in range(PAINTINGS):
        for page in ("", "history", "graph", "timeline"):
            await tab.page.goto(site.run("long-1", *([page] if page else [])))
            found.setdefault(page or "state", []).append(await tab.page.evaluate(_PAINTED))
    return {page: statistics.median(values) for page, values in found.items()}


def drawn_ms(steps: int) -> tuple[int, float]:
    """Return the boxes of the picture of a flow with these steps, and the milliseconds that drawing it takes."""
    flow = in_a_row(steps)
    times = []
    for _ in range(PAINTINGS):
        begun = time.perf_counter()
        boxes = len(picture(flow).nodes)
        times.append((time.perf_counter() - begun) * 1_000)
    return boxes, statistics.median(times)


def in_a_row(steps: int) -> FlowDefinition:
    """Return a flow of steps that follow each other."""
    outcomes = [_event(f"Done{number}") for number in range(steps + 1)]
    service = Service("work")
    for number in range(steps):

        async def does(event: Any, ctx: StepContext) -> Any:
            """Do nothing."""

        async def undoes(done: Any, ctx: StepContext) -> Any:
            """Do nothing."""

        does.__name__, undoes.__name__ = f"step{number}", f"undo{number}"
        undone = _event(f"Undone{number}")
        does.__annotations__ |= {"event": outcomes[number], "return": outcomes[number + 1]}
        undoes.__annotations__ |= {"done": outcomes[number + 1] | None, "return": undone | None}
        service.step(on=outcomes[number], emits=outcomes[number + 1])(does).compensate(emits=undone)(undoes)
    ends = {"completes": outcomes[-1], "fails": _event("Failed")}
    return Flow("row", key="key", starts=outcomes[0], services=[service], **ends).definition


def _event(name: str) -> type[Event]:
    return type(name, (Event,), {"__annotations__": {"key": str}, "__doc__": "An event of a flow."})


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
        with tempfile.TemporaryDirectory() as folder:
            async with site_in(Path(folder)) as site, watched(browser) as tab:
                paints = await first_paints(site, tab, LONG)
        shown = ", ".join(f"{page} {ms:.0f} ms" for page, ms in paints.items())
        print(f"first paint of a run with {LONG:,} events: {shown} (bound {PAINT_MS_MAX} ms), n={PAINTINGS}")
        boxes, took_ms = drawn_ms(STEPS)
        print(f"a graph of {boxes} boxes is drawn in {took_ms:.0f} ms (bound {DRAWN_MS_MAX} ms)")
        print(f"says that it is behind after {behind_ms:.0f} ms (bound {BEHIND_MS_MAX} ms)")


if __name__ == "__main__":
    asyncio.run(measure())
