"""The members of a consumer group, as its coordinator describes them. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.errors import cause_of
from choreo.core.errors import ChoreoError
from choreo.ports.log import GroupMember


def describe(admin: AdminClient, timeout_s: float, group: str) -> Any:
    """Ask for the description of one group; return its future by the group's name in the cluster."""
    return admin.describe_consumer_groups([group], request_timeout=timeout_s)


def members_of(description: Any, topic: str) -> list[GroupMember]:
    """Return the members that own partitions of the topic, and those that own nothing, by name.

    A service has one group for the topics of all its flows: a member that owns partitions of other topics only is left
    out. `topic` is the name in the cluster.
    """
    return sorted(_members(description, topic), key=lambda member: (member.name, member.partitions))


def _members(description: Any, topic: str) -> Iterator[GroupMember]:
    for member in description.members:
        owned = member.assignment.topic_partitions
        of_topic = tuple(sorted(place.partition for place in owned if place.topic == topic))
        if of_topic or not owned:
            name, host = member.group_instance_id or member.client_id, member.host.lstrip("/")
            yield GroupMember(name, host, of_topic, member.member_id, member.client_id)


def is_unknown(error: ChoreoError) -> bool:
    """Return whether the cluster answered that there is no such group."""
    inner = cause_of(error.__cause__)
    return inner is not None and inner.code() == KafkaError.GROUP_ID_NOT_FOUND
