"""Graph, timeline and previews of a run in a real Chromium: the state of each part, the past by a link, the action."""

from __future__ import annotations

import asyncio

import pytest

from tests.surfaces.web.harness import Site, Watched

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_graph_shows_the_state_of_each_part(site: Site, tab: Watched) -> None:
    """A failed undo stands in the picture and in the list; the keyboard reaches each step."""
    page = tab.page
    await page.goto(site.run("stuck-1", "graph"))
    parts = await page.locator("ol.parts li").all_inner_texts()
    assert "stock.reserve its undo failed" in parts
    steps = page.locator("svg.graph a.part")
    assert await steps.count() == len([text for text in parts if not text.startswith("wait.")])
    await steps.first.focus()
    assert await page.evaluate("document.activeElement.tagName") == "a"
    assert await page.locator("svg.graph a.failed title").count() == 2


async def test_a_link_to_a_position_shows_the_run_as_it_was(site: Site, tab: Watched) -> None:
    """Back to the start event by event, and to the present again; the link may be opened elsewhere."""
    page = tab.page
    await page.goto(site.run("declined-1", "graph"))
    assert "status compensated" in (await page.locator("h1").inner_html())
    seen = []
    while await page.get_by_role("link", name="Event before").count():
        await tab.follow(page.get_by_role("link", name="Event before"))
        seen.append(await page.locator("p.note strong").inner_text())
    assert seen[-1] == "running"
    assert "compensating" in seen
    first = page.url
    await page.goto(first.replace("/graph", "/timeline"))
    assert await page.locator("tbody tr").count() == 1
    await tab.follow(page.get_by_role("link", name="Now"))
    assert await page.locator("tbody tr").count() > 3
    tab.expect("422")
    refused = await page.goto(site.run("declined-1", "graph?at=nowhere"))
    assert refused.status == 422


async def test_the_ledger_of_the_past_and_its_difference_to_the_present(site: Site, tab: Watched) -> None:
    """The effect that was undone is open at an earlier position; there are no actions there, and a page of changes."""
    page = tab.page
    await page.goto(site.run("declined-1"))
    ledger = page.get_by_role("region", name="Ledger")
    assert "open" not in await ledger.inner_text()
    await page.get_by_text("At another position").click()
    while await ledger.locator(".effect.open").count() == 0:
        await tab.follow(page.get_by_role("link", name="Event before"))
    assert await page.get_by_role("region", name="Actions").count() == 0
    assert "running" in await page.locator("p.note strong").inner_text()
    await tab.follow(page.get_by_role("link", name="Changes since then"))
    state = await page.get_by_role("region", name="State").inner_text()
    assert "compensated" in state
    assert "stock.reserve open" in state
    assert await page.locator("ol.attempts li").count() >= 1


async def test_the_timeline_marks_work_and_undos(site: Site, tab: Watched) -> None:
    """Each bar says in words how long it took."""
    page = tab.page
    await page.goto(site.run("declined-1", "timeline"))
    assert await page.locator("svg.timeline rect.work title").count() >= 1
    assert await page.locator("svg.timeline rect.undo title").count() >= 1


async def test_an_action_is_previewed_before_it_is_done(site: Site, tab: Watched) -> None:
    """The consequences stand above the form; nothing is written before it is sent."""
    page = tab.page
    await site.start("preview-1")
    await site.seen("preview-1", "Charged")
    await page.goto(site.run("preview-1"))
    await page.get_by_text("Cancel…").click()
    await tab.follow(page.locator("#action-run-2").get_by_role("link", name="See the consequences first"))
    told = await page.get_by_role("region", name="Consequences").inner_text()
    assert "Undoes payment.charge, stock.reserve, in this order." in told
    assert "running" in await page.locator("h1").inner_text()
    await page.get_by_text("Cancel…").click()
    await page.get_by_label("Reason").fill("asked by the customer")
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.wait_for_selector("p.note[role=status]")
    await site.seen("preview-1", "choreo.FlowCompensated")
    await page.goto(site.run("preview-1", "preview", "cancel"))
    assert "It would be refused: the run has ended" in await page.locator("p.warning").inner_text()


async def test_a_batch_is_planned_begun_and_goes_on_by_itself(site: Site, tab: Watched) -> None:
    """The dry run tells the number; the batch is done though no page looks at it."""
    page = tab.page
    await site.start("batch-1")
    await site.seen("batch-1", "Charged")
    await page.goto(f"{site.url}/flows/order/batches")
    await page.get_by_label("Action", exact=True).select_option("pause")
    await page.get_by_label("Runs of status").select_option("running")
    await page.get_by_label("Reason").fill("stocktaking")
    await page.get_by_role("button", name="Dry run").click()
    dry = await page.get_by_role("region", name="Dry run").inner_text()
    assert "pause of runs with status running" in dry
    await page.get_by_role("button", name="Begin the batch").click()
    await page.wait_for_selector("tbody tr")
    await page.goto("about:blank")
    stop = asyncio.Event()
    working = asyncio.create_task(site.app.batches.work(stop))
    await site.seen("batch-1", "choreo.FlowPaused")
    stop.set()
    await working
    await page.goto(f"{site.url}/flows/order/batches")
    assert "done" in await page.locator("tbody tr").first.inner_text()
