"""The members of a group as a broker knows them."""

from types import SimpleNamespace
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import MemberAssignment, MemberDescription

from choreo.adapters.kafka.cluster.group_requests import members_of
from choreo.ports.log import GroupMember
from choreo.testing.conformance import TOPIC
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S


def described(client: str, *places: tuple[str, int], instance: str | None = None) -> MemberDescription:
    """Return a member as the admin client describes it."""
    assigned = MemberAssignment([TopicPartition(*place) for place in places])
    return MemberDescription(f"{client}-id", client, "/10.0.0.7", assigned, group_instance_id=instance)


def test_members_of_one_topic_are_listed() -> None:
    """Partitions of other topics are left out; a member without any is there, as in a rebalance."""
    members: list[Any] = [
        described("b", ("order", 3), ("order", 1), ("trip", 0)),
        described("a", ("order", 0), instance="pod-1"),
        described("c"),
        described("d", ("trip", 1)),
    ]
    assert members_of(SimpleNamespace(members=members), "order") == [
        GroupMember("b", "10.0.0.7", (1, 3), "b-id", "b"),
        GroupMember("c", "10.0.0.7", (), "c-id", "c"),
        GroupMember("pod-1", "10.0.0.7", (0,), "a-id", "a"),
    ]


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
