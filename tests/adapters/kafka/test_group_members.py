"""The members of a group as a broker knows them."""

from choreo.testing.conformance import TOPIC
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S


async def test_members_are_listed_with_their_partitions(open_log: OpenLog) -> None:
    """Only those on this topic; a group that never was has none, and neither has one that all have left."""
    log = open_log()
    await log.create(TOPIC, 4)
    assert await log.members(TOPIC, "payment") == []
    consumer = await log.consumer(TOPIC, "payment", "a")
    assert (await consumer.poll(10, PATIENCE_S)).assigned
    (member,) = await log.members(TOPIC, "payment")
    assert (member.name, member.partitions) == ("a", (0, 1, 2, 3))
    assert member.host
    await log.create("other", 1)
    assert await log.members("other", "payment") == []
    await consumer.close()
    assert await log.members(TOPIC, "payment") == []
