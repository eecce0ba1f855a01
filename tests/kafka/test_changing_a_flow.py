"""On Kafka and Redis a flow is changed while runs are in flight: each ends by the rules it began with."""

from __future__ import annotations

from choreo.settings import load
from choreo.wiring import App
from tests.kafka.conftest import OnKafka
from tests.support.changing import FLOW, Project, picked, waits_for_its_pick
from tests.support.patience import PATIENCE_S
from tests.support.running import running, until


async def test_runs_in_flight_end_by_the_rules_they_began_with(on_kafka: OnKafka) -> None:
    """The Faust tracker, the projector and the hosts agree on the version of each run, and on its build."""
    Project(2)  # its flow has every event
    on_kafka((FLOW,), 2)
    settings = load(build="blue")
    Project(1).freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "old-1")
        await waits_for_its_pick(app, "old-2")
    second = Project(2)
    second.freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "new-1")
        assert [await picked(app, key) for key in ("old-1", "new-1")] == ["completed"] * 2
        assert await picked(app, "old-2", foreign=True) == "completed"
        assert (await app.queries.instance("order", "old-2")).detail.build == "blue"
        await until(app, lambda: all_committed(app), patience_s=PATIENCE_S)
    assert sorted(second.seen) == ["new-1 confirm_weight", "new-1 weigh", "old-1 confirm", "old-2 confirm"]


async def all_committed(app: App) -> bool:
    """Return whether the tracker, and each service of the build, has committed an offset: none commits at once."""
    groups = {each.name: sum(part.committed for part in each.partitions) for each in await app.queries.groups("order")}
    assert groups.keys() == {"tracker", "mail@blue", "store@blue"}
    return all(groups.values())
