"""The Faust tracker when what it keeps is gone: changelog, group, local copy, part of the log."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.kafka import adopting, origin
from choreo.core import facts
from choreo.core.errors import ConflictError, ReplacedLogError
from choreo.hosts import tracker_faust_host
from choreo.hosts.tracker_faust_host import FaustTracker
from choreo.hosts.tracker_faust_local import ASIDE
from choreo.hosts.tracker_faust_trust import reviewed
from choreo.ports.log import TRACKER_GROUP
from tests.support import required
from tests.support.faust_orders import FLOW, PARTITIONS, Scene, orders, table, tracking, until

ORDERS = 100
Loss = Callable[[Scene], Awaitable[None]]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a broker answers."""
    with required.bootstrap(tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture
async def scene(bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Topics of this test's own, looked at often."""
    monkeypatch.setattr(tracker_faust_host, "CHECK_S", 2.0)
    monkeypatch.setattr(origin, "LOOK_S", 0.2)
    scene = Scene(bootstrap, tmp_path / "states")
    await scene.make()
    yield scene
    await scene.log.close()


async def changelog_made_again(scene: Scene) -> None:
    """As a remedy of ours says: it is deleted, and made."""
    admin = scene.admin()  # kept until it has answered
    await asyncio.to_thread(admin.delete_topics([scene.changelog])[scene.changelog].result)
    await scene.make()


async def changelog_emptied(scene: Scene) -> None:
    """Somebody deletes all its records."""
    await cut(scene, scene.changelog)


async def group_gone(scene: Scene) -> None:
    """Somebody deletes the tracker's group, or its offsets have expired."""
    group, admin = scene.options.application(FLOW), scene.admin()
    await asyncio.to_thread(admin.delete_consumer_groups([group])[group].result)


async def folder_gone(scene: Scene) -> None:
    """The local copy is lost."""
    await asyncio.to_thread(shutil.rmtree, scene.folder)


async def manifest_gone(scene: Scene) -> None:
    """A file of the local copy is lost."""
    found = list(scene.folder.rglob("MANIFEST-*"))
    assert found
    for path in found:
        path.unlink()


async def cut(scene: Scene, topic: str) -> None:
    """Delete all records of a topic."""
    admin = scene.admin()
    entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    await asyncio.to_thread(admin.incremental_alter_configs([resource])[resource].result)
    spans = await scene.log.spans(topic.removeprefix(scene.prefix))
    places = [TopicPartition(topic, partition, end) for partition, (_, end) in spans.items()]

    async def is_cut() -> bool:
        try:
            for answer in admin.delete_records(places).values():
                await asyncio.to_thread(answer.result, 10)
        except Exception:  # noqa: BLE001 - the policy is on its way to the broker
            return False
        return True

    await until(is_cut, "the records are deleted")


@pytest.mark.parametrize(
    "losses",
    [
        [changelog_made_again],
        [changelog_made_again, folder_gone],
        [changelog_emptied],
        [changelog_emptied, folder_gone],
        [group_gone],
        [changelog_made_again, group_gone, folder_gone],
        [manifest_gone],
        [manifest_gone, changelog_emptied],
    ],
    ids=lambda losses: " ".join(loss.__name__ for loss in losses),
)
async def test_what_was_lost_while_nobody_tracked_is_folded_again_from_the_log(
    scene: Scene, losses: list[Loss]
) -> None:
    """Every state is then what the log says, in changelog and copy; and nothing was decided from nothing."""
    async with tracking(scene):
        await scene.append(orders(0, ORDERS))
        await until(scene.settled, "everything is read and said")
    length = await scene.length()
    for loss in losses:
        await loss(scene)
    async with tracking(scene) as host:
        await until(lambda: _owns(host), "it has taken over")
        await until(scene.settled, "everything is read again")
        assert await scene.length() == length, "it has said something that nothing calls for"
        await scene.append(orders(ORDERS, 10))
        await until(scene.settled, "what is new is read and said")
    await scene.check()
    assert (manifest_gone in losses) == bool(list(scene.folder.rglob(ASIDE)))


async def _owns(host: FaustTracker) -> bool:
    return host.is_recovered


@pytest.mark.parametrize("loss", [changelog_made_again, changelog_emptied])
async def test_a_changelog_lost_under_a_tracker_at_work_is_written_again(scene: Scene, loss: Loss) -> None:
    """Without a restart: it sees that, folds the log again, and goes on."""
    async with tracking(scene) as host:
        await scene.append(orders(0, ORDERS))
        await until(scene.settled, "everything is read and said")
        await loss(scene)
        await until(lambda: _folded_anew(host), "it has seen it")
        await scene.append(orders(ORDERS, 10))
        await until(scene.settled, "everything is read and said")
    await scene.check()


async def _folded_anew(host: FaustTracker) -> bool:
    return host.counters.read().get("tracker_folded_anew", 0) >= PARTITIONS


async def _make_the_log_again(scene: Scene, host: FaustTracker) -> None:
    """Delete the topic under a tracker that has read it, and make it; return when the tracker reports it."""
    await scene.append(orders(0, ORDERS))
    await until(scene.settled, "everything is read and said")
    topic, admin = scene.prefix + FLOW, scene.admin()
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result)
    await until(lambda: _made(scene), "the topic is there again")
    await until(lambda: _stands(host, "made again"), "it says why it stands")


async def test_a_log_made_again_under_a_tracker_is_left_alone_until_somebody_chooses(scene: Scene) -> None:
    """It reports why it stands, and says nothing about orders of another log; nor does one that is started later."""
    async with tracking(scene) as host:
        await _make_the_log_again(scene, host)
    async with tracking(scene) as host:
        await until(lambda: _stands(host, "made again"), "it says why it stands")
    other = scene.another_log()
    assert [await other._cluster.ends(FLOW, range(PARTITIONS))] == [dict.fromkeys(range(PARTITIONS), 0)]
    await other.close()


async def test_a_log_that_is_adopted_is_folded_from_its_first_record_by_the_tracker_that_waits(scene: Scene) -> None:
    """Without a restart, and with no state of the log before: the same orders come again, and end again."""
    async with tracking(scene) as host:
        await _make_the_log_again(scene, host)
        await until(lambda: _adopted(scene), "it has left its group")
        await scene.make()
        await until(lambda: _is_answered(scene), "whoever knew the log before works the new one")
        await scene.append(orders(0, 10))
        await until(scene.settled, "the new log is read and said")
        await until(lambda: _works(host), "it says that it works")
    await scene.check()


async def test_states_that_are_ahead_of_the_log_are_reported_with_the_way_out(scene: Scene) -> None:
    """An empty log was said to have the same records: nothing is decided, and adopting it anew is the remedy."""
    async with tracking(scene):
        await scene.append(orders(0, ORDERS))
        await until(scene.settled, "everything is read and said")
    topic, admin = scene.prefix + FLOW, scene.admin()
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result)
    await until(lambda: _made(scene), "the topic is there again")
    await adopting.keep(scene.log._options, FLOW, [], reviewed)
    async with tracking(scene) as host:
        await until(lambda: _stands(host, "beyond the end of the log"), "it says why it stands")
        assert any(f"choreo topics adopt {FLOW}`" in each.remedy for each in host.dependencies.all())
    await until(lambda: _adopted(scene), "it has left its group")
    await scene.make()
    await until(lambda: _is_answered(scene), "whoever knew the log before works the new one")
    async with tracking(scene):
        await scene.append(orders(0, 10))
        await until(scene.settled, "the new log is read and said")
    await scene.check()


async def _adopted(scene: Scene) -> bool:
    try:
        await adopting.begin_anew(scene.log._options, FLOW, [])
    except ConflictError:
        return False
    return True


async def _is_answered(scene: Scene) -> bool:
    try:
        return await scene.length() == 0
    except ReplacedLogError:
        return False


async def _works(host: FaustTracker) -> bool:
    return not host.dependencies.all()


async def _made(scene: Scene) -> bool:
    admin = scene.admin()
    try:
        await scene.another_log()._cluster.create(FLOW, PARTITIONS)
    except Exception:  # noqa: BLE001 - the old one is still being deleted
        return False
    return bool(admin.list_topics(timeout=10).topics)


async def _stands(host: FaustTracker, cause: str) -> bool:
    return any(cause in each.cause for each in host.dependencies.all())


async def test_records_that_nobody_has_read_are_reported_and_no_clock_decides_about_them(scene: Scene) -> None:
    """The log is cut while nobody tracks: what came in between may have been the end of orders that look overdue."""
    flow = table.flow.scaled(1_000)
    starts = [event for event in orders(0, 10) if event.type == flow.starts]
    async with tracking(scene, flow):
        await scene.append(starts[:5])
        await until(scene.moved, "the first are read")
        await until(scene.all_read, "all of them are")
    before = await scene.length()
    await scene.append(starts[5:])
    await cut(scene, scene.prefix + FLOW)
    async with tracking(scene, flow) as host:
        await until(lambda: _stands(host, "nobody has read"), "it says what is missing")
        new = [event for event in orders(20, 5) if event.type == flow.starts]
        await scene.append(new)
        await until(lambda: _turned(scene, len(new)), "orders of which all is known run into their deadlines")
    said = {record.event.key for record in await scene.records() if record.event.type == facts.STEP_DEADLINE_PASSED}
    assert said == {event.key for event in new}
    assert before
    assert await scene.log.committed(FLOW, TRACKER_GROUP)
    async with tracking(scene, flow) as host:
        await until(lambda: _stands(host, "nobody has read"), "a tracker that comes later knows it too")


async def _turned(scene: Scene, number: int) -> bool:
    return [record.event.type for record in await scene.records()].count(facts.FLOW_TURNED) == number
