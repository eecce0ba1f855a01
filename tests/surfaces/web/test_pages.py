"""The pages in a real Chromium: an action shows its own write, a filter filters."""

from __future__ import annotations

import pytest

from tests.surfaces.web.harness import Site, Watched

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_browser_is_led_to_the_page(site: Site, tab: Watched) -> None:
    """`/` leads on to the list of flows, with its counts, and from there to a run."""
    page = tab.page
    await page.goto(site.url.removesuffix("/ui"))
    assert page.url == f"{site.url}/flows"
    await tab.follow(page.get_by_role("link", name="1 stuck"))
    await tab.follow(page.get_by_role("link", name="stuck-1"))
    assert "the shelf is locked" in await page.inner_text("section.why")
    assert "choreo undo retry stuck-1 stock.reserve" in await page.inner_text(".command")


async def test_an_action_shows_its_own_write(site: Site, tab: Watched) -> None:
    """Pause and resume, with the script and without a reload; the reason stands in the history and the audit list."""
    page = tab.page
    await site.start("paused-1")
    await site.seen("paused-1", "Charged")
    await page.goto(site.run("paused-1"))
    await page.evaluate("window.sameDocument = true")
    await page.get_by_text("Pause…").click()
    await page.get_by_label("Reason (may be left out)").fill("looked at by ann")
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.get_by_text("and shown here").wait_for()
    assert await page.inner_text("h1 .status") == "paused"
    assert await page.evaluate("window.sameDocument") is True
    await page.goto(f"{site.url}/audit")
    assert "looked at by ann" in await page.inner_text("main")


async def test_a_reason_is_required_where_effects_are_undone(site: Site, tab: Watched) -> None:
    """By the browser and by the server; with a reason the run is compensated."""
    page = tab.page
    await site.start("cancelled-1")
    await site.seen("cancelled-1", "Charged")
    await page.goto(site.run("cancelled-1"))
    await page.get_by_text("Cancel…").click()
    reason = page.get_by_label("Reason", exact=True).first
    assert await reason.get_attribute("required") is not None
    tab.expect("status of 422")
    await tab.send_without_a_reason("Cancel")
    assert "a reason is required" in await page.locator("#notice .error").inner_text()
    await reason.fill("the customer called")
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.get_by_text("and shown here").wait_for()
    assert await page.inner_text("h1 .status") in ("compensating", "compensated")


async def test_an_order_is_published_and_shown(site: Site, tab: Watched) -> None:
    """A refused form keeps what was written; a good one leads to the run."""
    page = tab.page
    await page.goto(f"{site.url}/flows/order/publish")
    await page.get_by_label("Fields, as JSON").fill('{"order": "p-1"}')
    tab.expect("status of 422")
    await tab.follow(page.get_by_role("button", name="Publish"))
    assert await page.locator("[role=alert]").count() == 1
    assert await page.get_by_label("Fields, as JSON").input_value() == '{"order": "p-1"}'
    await page.get_by_label("Fields, as JSON").fill('{"order_id": "p-1"}')
    await tab.follow(page.get_by_role("button", name="Publish"))
    assert (await page.inner_text("h1")).startswith("p-1")


async def test_dead_letters_stand_in_groups_and_are_redriven(site: Site, tab: Watched) -> None:
    """Those of one step and cause together; a redrive is counted, and a useless one refused with the reason."""
    page = tab.page
    await page.goto(f"{site.url}/dead-letters")
    assert await page.locator("section.group").count() == 2
    first = page.locator("section.group", has_text="payment.charge: field order_id: … is no text")
    await tab.follow(first.locator("tbody a").first)
    await page.get_by_role("button", name="Redrive").click()
    await page.get_by_text("Redriven: it stands in the log").wait_for()
    assert "1 time" in await page.inner_text("main dl")
    await page.goto(f"{site.url}/dead-letters")
    tab.expect("status of 409")
    second = page.locator("section.group", has_text="Ordered, application/json")
    await second.get_by_role("button", name="Redrive the ticked letters").click()
    assert "the step would be skipped" in await page.inner_text("[role=alert]")


async def test_filters_stand_in_the_address_and_a_view_keeps_them(site: Site, tab: Watched) -> None:
    """By status, step and attribute; a saved view is a link, and can be removed."""
    page = tab.page
    await page.goto(f"{site.url}/flows/order/instances")
    await page.get_by_label("Step or wait").select_option("payment.charge")
    await tab.follow(page.get_by_role("button", name="Filter"))
    assert await page.locator("tbody th").all_inner_texts() == ["retry-1"]
    await page.get_by_label("Attribute").first.fill("note^=note of st")
    await page.get_by_label("Step or wait").select_option("any")
    await tab.follow(page.get_by_role("button", name="Filter"))
    assert await page.locator("tbody th").all_inner_texts() == ["stuck-1"]
    await page.get_by_text("Save or remove a view").click()
    await page.get_by_label("Name of this filter").fill("notes of st")
    await tab.follow(page.get_by_role("button", name="Save"))
    await page.goto(f"{site.url}/flows/order/instances")
    await tab.follow(page.get_by_role("link", name="notes of st"))
    assert await page.locator("tbody th").all_inner_texts() == ["stuck-1"]
    await page.get_by_text("Save or remove a view").click()
    await tab.follow(page.get_by_role("button", name="Remove notes of st"))
    assert await page.get_by_role("link", name="notes of st").count() == 0
