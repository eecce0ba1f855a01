"""On Kafka and Redis a log is replayed from the cluster and from a file, and the page shows and changes a run."""

from __future__ import annotations

from pathlib import Path

from choreo.adapters.recording import Head, RecordingFile, export
from choreo.app.query.comparison import fields_of
from choreo.app.query.past import Pasts, Until
from choreo.app.query.replay import Replay
from choreo.cli.replay import installation, replay_of
from choreo.ports.read_model import Filter
from choreo.settings import load
from choreo.surfaces.rest.server import use_cases_of
from choreo.surfaces.web import create_site
from choreo.wiring import App
from choreo.wiring.hosting import attributes_reader, fields_reader
from tests.kafka.conftest import OnKafka
from tests.support.changing import FLOW, Project, picked, waits_for_its_pick
from tests.support.running import running
from tests.support.serving import served
from tests.surfaces.web.harness import watched


async def test_a_log_on_kafka_is_replayed_from_the_cluster_and_from_a_file(on_kafka: OnKafka, tmp_path: Path) -> None:
    """No difference, and the state at the end is the shown one. The file holds what the cluster has."""
    Project(2)
    on_kafka((FLOW,), 2)
    settings = load()
    Project(1).freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "open-1")
        await waits_for_its_pick(app, "done-1")
        assert await picked(app, "done-1") == "completed"
        source = installation(app)
        head = Head(
            recording=1,
            flow="order",
            version=1,
            partitions=await source.partitions("order"),
            positions=await source.positions("order"),
            keys=[],
            as_of_ms=source.as_of_ms,
        )
        await export(source, head, tmp_path / "order.jsonl", lambda _: None)
        file = RecordingFile(tmp_path / "order.jsonl")
        for recording in (source, file):
            again: Replay = replay_of(app, recording, "order")
            assert [difference async for difference in again.differences()] == []
            assert (again.runs, again.truncated) == (2, 0)
            await shown_at_the_end(
                app,
                Pasts(
                    app.queries.flows,
                    recording,
                    app.codec,
                    attributes_reader(app, app.flows["order"]),
                    fields_reader(app, app.flows["order"]),
                ),
            )
        for key in ("open-1", "done-1"):
            assert await file.history("order", key) == await source.history("order", key)
        file.close()


async def test_the_page_shows_a_run_and_its_own_write(on_kafka: OnKafka) -> None:
    """In a real browser: the stream names the position, an action is shown, and the past stands beside the present."""
    from tests.support.browser import chromium  # skips where a part is missing

    Project(1)
    on_kafka((FLOW,), 1)
    async with running(load()) as app, served(create_site(use_cases_of(app))) as port, chromium() as browser:
        await waits_for_its_pick(app, "open-1")
        async with watched(browser) as tab:
            page = tab.page
            await page.goto(f"http://127.0.0.1:{port}/ui/flows/order/instances/open-1")
            await tab.shows("#stamp", r"^True up to order/0/\d+, 0 ms behind")
            await page.get_by_text("Pause…").click()
            await page.get_by_role("button", name="Pause", exact=True).click()
            await page.get_by_text("and shown here").wait_for()
            await tab.shows("h1 .status", "^paused$")
            await tab.follow(page.get_by_role("link", name="Changes"))
            assert "paused" in await page.get_by_role("region", name="State").inner_text()
            await tab.follow(page.get_by_role("link", name="Groups"))
            assert await page.get_by_role("region", name="Partitions of tracker of order").count() == 1


async def shown_at_the_end(app: App, pasts: Pasts) -> None:
    """Assert that each run at the end of the log is as the read model shows it."""
    for row in (await app.queries.instances(Filter(flow="order"), 10)).items:
        past = await pasts.at("order", row.key, Until())
        assert fields_of(past.instance.row) == fields_of(row)
        assert past.offset == row.position
