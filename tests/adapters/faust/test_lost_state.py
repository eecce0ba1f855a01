"""The tracker on Kafka after a loss: of changelog, group, local copy, part of the log."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.faust import session_watch
from choreo.adapters.faust.local_copy import ASIDE
from choreo.adapters.faust.trust import reviewed
from choreo.adapters.kafka import adoption
from choreo.adapters.kafka.cluster import log_identity
from choreo.core import facts
from choreo.core.errors import ConflictError, ReplacedLogError
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import TRACKER_GROUP
from tests.support import required
from tests.support.faust_orders import FLOW, PARTITIONS, Harness, orders, table, tracking, until

ORDERS = 100
Loss = Callable[[Harness], Awaitable[None]]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a broker."""
    with required.bootstrap(tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture
async def harness(bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """Yield topics of this test's own, looked at often."""
    monkeypatch.setattr(session_watch, "CHECK_S", 2.0)
    monkeypatch.setattr(log_identity, "LOOK_S", 0.2)
    harness = Harness(bootstrap, tmp_path / "states")
    await harness.make()
    yield harness
    await harness.log.close()


async def changelog_made_again(harness: Harness) -> None:
    """Delete the changelog and create it, as a remedy of an error tells."""
    admin = harness.admin()  # kept until it has answered
    await asyncio.to_thread(admin.delete_topics([harness.changelog])[harness.changelog].result)
    await harness.make()


async def changelog_emptied(harness: Harness) -> None:
    """Delete all records of the changelog."""
    await cut(harness, harness.changelog)


async def group_gone(harness: Harness) -> None:
    """Delete the tracker's group, as if its offsets had expired."""
    group, admin = harness.options.application(FLOW), harness.admin()
    await asyncio.to_thread(admin.delete_consumer_groups([group])[group].result)


async def folder_gone(harness: Harness) -> None:
    """Delete the local copy."""
    await asyncio.to_thread(shutil.rmtree, harness.folder)


async def manifest_gone(harness: Harness) -> None:
    """Delete a file of the local copy."""
    found = list(harness.folder.rglob("MANIFEST-*"))
    assert found
    for path in found:
        path.unlink()


async def cut(harness: Harness, topic: str) -> None:
    """Delete all records of a topic."""
    admin = harness.admin()
    entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    await asyncio.to_thread(admin.incremental_alter_configs([resource])[resource].result)
    spans = await harness.log.spans(topic.removeprefix(harness.prefix))
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
async def test_states_that_were_lost_while_no_tracker_ran_are_folded_again_from_the_log(
    harness: Harness, losses: list[Loss]
) -> None:
    """Every state in changelog and copy is then the fold of the log; no decision was made without states."""
    async with tracking(harness):
        await harness.append(orders(0, ORDERS))
        await until(harness.settled, "everything is read and published")
    length = await harness.length()
    for loss in losses:
        await loss(harness)
    async with tracking(harness) as host:
        await until(lambda: _owns(host), "it has taken over")
        await until(harness.settled, "everything is read again")
        assert await harness.length() == length, "it has published a fact that nothing calls for"
        await harness.append(orders(ORDERS, 10))
        await until(harness.settled, "new records are read and published")
    await harness.check()
    assert (manifest_gone in losses) == bool(list(harness.folder.rglob(ASIDE)))


async def _owns(host: TrackerHost) -> bool:
    return host.is_ready


@pytest.mark.parametrize("loss", [changelog_made_again, changelog_emptied])
async def test_a_changelog_lost_under_a_tracker_at_work_is_written_again(harness: Harness, loss: Loss) -> None:
    """Without a restart: it sees that, folds the log again, and goes on."""
    async with tracking(harness) as host:
        await harness.append(orders(0, ORDERS))
        await until(harness.settled, "everything is read and published")
        await loss(harness)
        await until(lambda: _folded_anew(host), "it has seen it")
        await harness.append(orders(ORDERS, 10))
        await until(harness.settled, "everything is read and published")
    await harness.check()


async def _folded_anew(host: TrackerHost) -> bool:
    return host.metrics.read().get("tracker_folded_anew", 0) >= PARTITIONS


async def _make_the_log_again(harness: Harness, host: TrackerHost) -> None:
    """Delete the topic under a tracker that has read it, and make it; return when the tracker reports it."""
    await harness.append(orders(0, ORDERS))
    await until(harness.settled, "everything is read and published")
    topic, admin = harness.prefix + FLOW, harness.admin()
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result)
    await until(lambda: _made(harness), "the topic is there again")
    await until(lambda: _stands(host, "made again"), "it reports why it stands")


async def test_a_log_made_again_under_a_tracker_is_left_alone_until_somebody_chooses(harness: Harness) -> None:
    """It reports why it stands, and publishes nothing about another log's orders; nor does one that starts later."""
    async with tracking(harness) as host:
        await _make_the_log_again(harness, host)
    async with tracking(harness) as host:
        await until(lambda: _stands(host, "made again"), "it reports why it stands")
    assert await harness.cluster().ends(FLOW, range(PARTITIONS)) == dict.fromkeys(range(PARTITIONS), 0)


async def test_a_log_that_is_adopted_is_folded_from_its_first_record_by_the_tracker_that_waits(
    harness: Harness,
) -> None:
    """Without a restart, and with no state of the log before: the same orders come again, and end again."""
    async with tracking(harness) as host:
        await _make_the_log_again(harness, host)
        await until(lambda: _adopted(harness), "it has left its group")
        await harness.make()
        await until(lambda: _is_answered(harness), "a process that knew the log before works the new one")
        await harness.append(orders(0, 10))
        await until(harness.settled, "the new log is read and published")
        await until(lambda: _works(host), "it reports nothing any more")
    await harness.check()


async def test_states_that_are_ahead_of_the_log_are_reported_with_the_way_out(harness: Harness) -> None:
    """An empty log was adopted with the same records: nothing is decided, and adopting it anew is the remedy."""
    async with tracking(harness):
        await harness.append(orders(0, ORDERS))
        await until(harness.settled, "everything is read and published")
    topic, admin = harness.prefix + FLOW, harness.admin()
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result)
    await until(lambda: _made(harness), "the topic is there again")
    await adoption.keep(harness.kafka, FLOW, [], "", reviewed)
    async with tracking(harness) as host:
        await until(lambda: _stands(host, "beyond the end of the log"), "it reports why it stands")
        assert any(f"choreo topics adopt {FLOW}`" in each.remedy for each in host.dependencies.all())
    await until(lambda: _adopted(harness), "it has left its group")
    await harness.make()
    await until(lambda: _is_answered(harness), "a process that knew the log before works the new one")
    async with tracking(harness):
        await harness.append(orders(0, 10))
        await until(harness.settled, "the new log is read and published")
    await harness.check()


async def _adopted(harness: Harness) -> bool:
    try:
        await adoption.begin_anew(harness.kafka, FLOW, [], "")
    except ConflictError:
        return False
    return True


async def _is_answered(harness: Harness) -> bool:
    try:
        return await harness.length() == 0
    except ReplacedLogError:
        return False


async def _works(host: TrackerHost) -> bool:
    return not host.dependencies.all()


async def _made(harness: Harness) -> bool:
    admin = harness.admin()
    try:
        await harness.cluster().create(FLOW, PARTITIONS)
    except Exception:  # noqa: BLE001 - the old one is still being deleted
        return False
    return bool(admin.list_topics(timeout=10).topics)


async def _stands(host: TrackerHost, cause: str) -> bool:
    return any(cause in each.cause for each in host.dependencies.all())


async def test_records_that_nobody_has_read_are_reported_and_no_clock_decides_about_them(harness: Harness) -> None:
    """The log is cut while nobody tracks: a lost record may have ended an order that looks overdue."""
    flow = table.flow.scaled(1_000)
    starts = [event for event in orders(0, 10) if event.type == flow.starts]
    async with tracking(harness, flow):
        await harness.append(starts[:5])
        await until(harness.moved, "the first are read")
        await until(harness.all_read, "all of them are")
    before = await harness.length()
    await harness.append(starts[5:])
    await cut(harness, harness.prefix + FLOW)
    async with tracking(harness, flow) as host:
        await until(lambda: _stands(host, "deleted before they were read"), "it reports the missing records")
        new = [event for event in orders(20, 5) if event.type == flow.starts]
        await harness.append(new)
        await until(lambda: _turned(harness, len(new)), "orders of which all is known run into their deadlines")
    published = {
        record.event.key for record in await harness.records() if record.event.type == facts.STEP_DEADLINE_PASSED
    }
    assert published == {event.key for event in new}
    assert before
    assert await harness.log.committed(FLOW, TRACKER_GROUP)
    async with tracking(harness, flow) as host:
        await until(lambda: _stands(host, "deleted before they were read"), "a tracker that comes later knows it too")


async def _turned(harness: Harness, number: int) -> bool:
    return [record.event.type for record in await harness.records()].count(facts.COMPENSATION_STARTED) == number
