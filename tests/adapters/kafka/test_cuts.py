"""Records that were deleted before a group had read them."""

import asyncio

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from choreo.app.dependencies import DependencyReports
from choreo.ports.log import Member, Work
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog

RECORDS = 15_000
"""Far more than a member and its client fetch ahead of a host that reads no more."""


@pytest.mark.parametrize("at_work", [False, True], ids=["while it is away", "while it works"])
async def test_records_that_were_deleted_before_a_group_read_them_are_reported(
    open_log: OpenLog, kafka: str, at_work: bool
) -> None:
    """The member goes on with what there is, and its process says which offsets nobody has read."""
    reports = DependencyReports(VirtualClock())
    log = open_log(dependencies=reports)
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5)])
    member = await log.member(TOPIC, "payment", "one")
    await read_up_to(member, 3)
    member.pause([0])
    if not at_work:
        await member.close()
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5, RECORDS)])
    admin = AdminClient({"bootstrap.servers": kafka})
    name = log._options.name(TOPIC)
    end = RECORDS
    answer = admin.delete_records([TopicPartition(name, 0, end)])
    await asyncio.to_thread(answer[TopicPartition(name, 0, end)].result, 10)
    await log.append(TOPIC, [event("last")])
    if at_work:
        member.resume([0])
    else:
        member = await log.member(TOPIC, "payment", "two")
    async with asyncio.timeout(60):
        while not (poll := await member.poll(10_000, 0.2)).records or poll.records[-1].event.id != "last":
            continue
        while not reports.all():
            await member.poll(10, 0.1)
    (found,) = reports.all()
    assert found.name == "records of order for payment"
    assert f"to {end - 1} of partition 0" in found.cause
    await member.close()


async def read_up_to(member: Member, offset: int) -> None:
    """Poll and commit so far."""
    async with asyncio.timeout(60):
        while not (poll := await member.poll(offset, 0.2)).records:
            continue
        await member.commit(Work(done={0: poll.records[-1].offset + 1}))
