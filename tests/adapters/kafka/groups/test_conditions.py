"""Records that were deleted before a group had read them."""

import asyncio

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.adoption import keep
from choreo.adapters.kafka.groups.conditions import Missing, missing_in, with_missing
from choreo.app.dependencies import DependencyReports
from choreo.ports.log import CommitBatch, Consumer
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S

RECORDS = 15_000
"""Far more than a consumer and its client fetch ahead of a host that reads no more."""


@pytest.mark.parametrize("at_work", [False, True], ids=["while it is away", "while it works"])
async def test_records_that_were_deleted_before_a_group_read_them_are_reported(
    open_log: OpenLog, kafka: str, at_work: bool
) -> None:
    """The consumer goes on with the first existing record, and its process reports the unread offsets."""
    reports = DependencyReports(VirtualClock())
    log = open_log(dependencies=reports)
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5)])
    consumer = await log.consumer(TOPIC, "payment", "one")
    await read_up_to(consumer, 3)
    consumer.pause([0])
    if not at_work:
        await consumer.close()
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5, RECORDS)])
    admin = AdminClient({"bootstrap.servers": kafka})
    name = log.options.name(TOPIC)
    end = RECORDS
    answer = admin.delete_records([TopicPartition(name, 0, end)])
    await asyncio.to_thread(answer[TopicPartition(name, 0, end)].result, 10)
    await log.append(TOPIC, [event("last")])
    if at_work:
        consumer.resume([0])
    else:
        consumer = await log.consumer(TOPIC, "payment", "two")
    async with asyncio.timeout(PATIENCE_S):
        while not (poll := await consumer.poll(10_000, 0.2)).records or poll.records[-1].event.id != "last":
            continue
        while not reports.all():
            await consumer.poll(10, 0.1)
    (found,) = reports.all()
    assert found.name == "records of order for payment"
    assert f"to {end - 1} of partition 0" in found.cause
    # the next owner of the partition reports the same, in another process too
    await consumer.commit(CommitBatch(done={0: end + 1}))
    await consumer.close()
    assert reports.all() == []
    assert await heard_by_the_next(open_log) == [found.cause]
    # until somebody says that it was looked at
    await keep(log.options, TOPIC, ["payment"], "", str)
    assert await heard_by_the_next(open_log) == []


async def heard_by_the_next(open_log: OpenLog) -> list[str]:
    """Return the reports of a new process that has the partition and has read a record of it."""
    reports = DependencyReports(VirtualClock())
    log = open_log(dependencies=reports)
    consumer = await log.consumer(TOPIC, "payment", "next")
    await log.append(TOPIC, [event("next")])
    async with asyncio.timeout(PATIENCE_S):
        while not (await consumer.poll(10, 0.2)).records:
            continue
    causes = [one.cause for one in reports.all()]
    await consumer.close()
    return causes


async def test_a_read_of_what_is_gone_goes_on_behind_it_and_logs_the_range(
    open_log: OpenLog, kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, however often it is read."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5)])
    place = TopicPartition(log.options.name(TOPIC), 0, 3)
    admin = AdminClient({"bootstrap.servers": kafka})
    await asyncio.to_thread(admin.delete_records([place])[place].result, 10)
    for _ in range(2):
        assert [record.offset for record in await log.read(TOPIC, 0, 1, 10)] == [3, 4]
    said = [record.getMessage() for record in caplog.records if "no longer in the log" in record.getMessage()]
    assert said == ["topic order: offsets 1 to 2 of partition 0 are no longer in the log; it is read from offset 3 on"]


@pytest.mark.parametrize("more", ["", "inbox-1", "a missing b", "inbox-1 missing 3-x"])
def test_a_range_is_read_as_it_was_noted(more: str) -> None:
    """Other text may stand before the range."""
    assert missing_in(with_missing(more, Missing(3, 7))) == (more, Missing(3, 7))
    assert missing_in(with_missing(more, None)) == (more, None)


async def read_up_to(consumer: Consumer, offset: int) -> None:
    """Poll and commit so far."""
    async with asyncio.timeout(PATIENCE_S):
        while not (poll := await consumer.poll(offset, 0.2)).records:
            continue
        await consumer.commit(CommitBatch(done={0: poll.records[-1].offset + 1}))
