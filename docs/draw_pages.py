"""Make the pictures of the web page: `python docs/draw_pages.py` writes docs/pictures/*.png with a real Chromium.

The runs are those of the tests of the page, on the embedded backend.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.support.browser import chromium
from tests.surfaces.web.harness import LETTER, site_in, watched

PICTURES = Path(__file__).parent / "pictures"
SIZE = {"width": 960, "height": 640}
PAGES = {
    "flows": "/flows",
    "flow": "/flows/order",
    "instances": "/flows/order/instances",
    "stuck": "/flows/order/instances/stuck-1",
    "retry": "/flows/order/instances/retry-1",
    "history": "/flows/order/instances/stuck-1/history",
    "graph": "/flows/order/instances/stuck-1/graph",
    "timeline": "/flows/order/instances/declined-1/timeline",
    "preview": "/flows/order/instances/retry-1/preview/cancel",
    "batches": "/flows/order/batches?action=cancel&status=running&rate=10&reason=stocktaking",
    "timers": "/flows/order/timers",
    "stalled": "/stalled",
    "groups": "/groups",
    "events": "/events",
    "dead-letters": "/dead-letters",
    "dead-letter": f"/dead-letters/{LETTER}",
    "audit": "/audit",
    "publish": "/flows/order/publish",
}
"""Pictures by name, with the page of each; a new page belongs here."""
STREAMED = frozenset(PAGES) - {"publish", "dead-letter", "preview", "batches"}
"""Pages that say how far they are true."""


async def draw() -> None:
    """Make every picture."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with site_in(Path(folder)) as site, chromium() as browser:
            await site.play()
            await site.app.operator.pause("order", "open-1", reason="the customer wants another card")
            await site.seen("open-1", "choreo.FlowPaused")
            for name, path in PAGES.items():
                async with watched(browser, viewport=SIZE, color_scheme="light", reduced_motion="reduce") as tab:
                    await tab.page.goto(site.url + path)
                    if name in STREAMED:
                        await tab.shows("#stamp", "^True up to")
                    await tab.page.screenshot(path=PICTURES / f"{name}.png")
            async with watched(browser, viewport=SIZE, color_scheme="dark", reduced_motion="reduce") as tab:
                await tab.page.goto(f"{site.url}/flows/order")
                await tab.shows("#stamp", "^True up to")
                await tab.page.screenshot(path=PICTURES / "dark.png")


if __name__ == "__main__":
    asyncio.run(draw())
