"""On Kafka and Redis a log is replayed from the cluster and from a file: the projector's views are the same fold."""

from __future__ import annotations

from pathlib import Path

from choreo.adapters.recording import Head, RecordingFile, export
from choreo.app.query.comparison import fields_of
from choreo.app.query.past import Pasts, Until
from choreo.app.query.replay import Replay
from choreo.cli.replay import installation, replay_of
from choreo.ports.read_model import Filter
from choreo.settings import load
from choreo.wiring import App
from choreo.wiring.hosting import attributes_reader, fields_reader
from tests.kafka.conftest import OnKafka
from tests.support.changing import FLOW, Project, picked, waits_for_its_pick
from tests.support.running import running


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


async def shown_at_the_end(app: App, pasts: Pasts) -> None:
    """Assert that each run at the end of the log is as the read model shows it."""
    for row in (await app.queries.instances(Filter(flow="order"), 10)).items:
        past = await pasts.at("order", row.key, Until())
        assert fields_of(past.instance.row) == fields_of(row)
        assert past.offset == row.position
