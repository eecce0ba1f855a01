"""The pages of groups, stalled runs, timers and events in a real Chromium: each leads on to the runs."""

from __future__ import annotations

import pytest

from choreo.core.events import Envelope
from choreo.core.partition import partition_of
from tests.core.shop import Picked
from tests.support.patience import PATIENCE_S
from tests.support.running import until
from tests.surfaces.web.harness import Site, Watched

pytestmark = pytest.mark.asyncio(loop_scope="session")
STRANGE = '<script>alert("1")</script>\u202e'


async def test_a_group_has_its_members_and_partitions(site: Site, tab: Watched) -> None:
    """Each partition names its owner; the tracker, every service, and the facts of the API."""
    await tab.page.goto(f"{site.url}/groups")
    headings = await tab.page.locator("main h2").all_inner_texts()
    assert {text.split()[0] for text in headings} >= {"tracker", "payment"}
    group = await site.app.queries.group("order", "payment")
    table = tab.page.get_by_role("region", name="Partitions of payment of order")
    rows = await table.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(group.partitions)
    assert all(each.owner in row for each, row in zip(group.partitions, rows, strict=True))


async def test_a_lagging_partition_leads_to_the_runs_it_holds_up(site: Site, tab: Watched) -> None:
    """From the number of records to the run that retries its payment, and to its page."""
    partition = partition_of("retry-1", await site.app.backend.log.partitions("order"))
    await tab.page.goto(f"{site.url}/flows/order/groups/payment/partitions/{partition}/runs")
    link = tab.page.get_by_role("link", name="retry-1")
    assert await link.count() == 1
    assert "payment.charge" in await tab.page.inner_text("main table")
    await tab.follow(link)
    assert (await tab.page.inner_text("h1")).startswith("retry-1")


async def test_timers_are_in_the_order_of_their_time(site: Site, tab: Watched) -> None:
    """The run that tries again soon stands first; those that ended are not there."""
    await tab.page.goto(f"{site.url}/flows/order")
    await tab.follow(tab.page.get_by_role("link", name="Timers"))
    keys = await tab.page.locator("tbody th").all_inner_texts()
    expected = [row.key for row in (await site.app.queries.timers("order", 50)).items]
    assert keys == expected
    assert {"open-1", "retry-1"} <= set(keys)
    assert "done-1" not in keys


async def test_orphans_and_strange_keys_are_shown_as_text(site: Site, tab: Watched) -> None:
    """An event of a key without a run is listed once it is some seconds old; its key is text."""
    event = Envelope("orphan-1", "Picked", STRANGE, "order", source="warehouse/4")
    await site.app.backend.log.append("order", [event])
    await site.app.publisher.publish("order", Picked(order_id="nobody-1"), allow_early=True)

    async def are_old() -> bool:
        return len((await site.app.queries.stalled("order")).orphans) == 2

    await until(site.app, are_old, patience_s=PATIENCE_S)
    await tab.page.goto(f"{site.url}/stalled")
    orphans = tab.page.get_by_role("region", name="Events without a run of order")
    text = await orphans.inner_text()
    assert "nobody-1" in text
    assert '<script>alert("1")</script>\\u202e' in text


async def test_drift_is_shown_on_the_page_of_events(site: Site, tab: Watched) -> None:
    """An event that no flow declares, by a foreign producer."""
    foreign = Envelope("lost-1", "PickedTwice", "o-1", "order", source="warehouse/4")
    await site.app.backend.log.append("order", [foreign])
    await tab.page.goto(f"{site.url}/events")
    assert "the flow declares no such event, and warehouse/4 publishes it" in await tab.page.inner_text("main .warning")
    first = await tab.page.locator("tbody th").all_inner_texts()
    assert "PickedTwice not declared" in first[:3], "those with a difference stand first"
