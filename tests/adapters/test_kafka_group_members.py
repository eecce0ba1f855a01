"""A group's description by a broker, as members of one topic. No broker is needed."""

from types import SimpleNamespace
from typing import Any

from tests.support.required import needed

needed("confluent_kafka", "kafka")

from confluent_kafka import TopicPartition  # noqa: E402
from confluent_kafka.admin import MemberAssignment, MemberDescription  # noqa: E402

from choreo.adapters.kafka.cluster.group_members import members_of  # noqa: E402
from choreo.ports.log import GroupMember  # noqa: E402


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
