"""Read the consumer groups from the broker by a plain admin client: their assignments and their committed offsets.

While the broker is away the last answers stand.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.audit.from_kafka import messages

ANSWER_S = 3.0
PATIENCE_S = 10.0
_GROUP_METADATA = 2
"""The version of a key in __consumer_offsets with a value that describes a group."""


class Groups:
    """The groups of one installation, by their plain names."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, names: Mapping[str, str]) -> None:
        """Connect to the cluster; `names`: plain name → the group's name in the cluster."""
        self.names = names
        self._bootstrap = bootstrap
        self._topic = topic
        self.partitions = range(partitions)
        self._one_at_a_time = threading.Lock()
        self._connect()
        self._owned: dict[str, dict[str, frozenset[int]]] = {}
        self._committed: dict[str, dict[int, int]] = {}

    def owned(self, name: str) -> dict[str, frozenset[int]]:
        """Return client id → partitions, of every consumer that has any."""
        try:
            with self._one_at_a_time:
                answer = self._admin.describe_consumer_groups([self.names[name]], request_timeout=ANSWER_S)
                consumers = answer[self.names[name]].result(PATIENCE_S).members
        except (KafkaException, TimeoutError):
            self._connect()
            return self._owned.get(name, {})
        shares = {
            consumer.client_id: frozenset(place.partition for place in consumer.assignment.topic_partitions)
            for consumer in consumers
            if consumer.assignment is not None
        }
        self._owned[name] = {client: share for client, share in shares.items() if share}
        return self._owned[name]

    def committed(self, name: str) -> dict[int, int]:
        """Partition → committed offset, 0 where there is none."""
        wanted = [TopicPartition(self._topic, number) for number in self.partitions]
        request = [ConsumerGroupTopicPartitions(self.names[name], wanted)]
        try:
            with self._one_at_a_time:
                answer = self._admin.list_consumer_group_offsets(request, request_timeout=ANSWER_S)
                places = answer[self.names[name]].result(PATIENCE_S).topic_partitions
        except (KafkaException, TimeoutError):
            self._connect()
            return self._committed.get(name, dict.fromkeys(self.partitions, 0))
        self._committed[name] = {place.partition: max(0, place.offset) for place in places}
        return self._committed[name]

    def ends(self) -> dict[int, int]:
        """Return where each partition of the log ends; raises KafkaException while the broker is away."""
        wanted = {TopicPartition(self._topic, number): OffsetSpec.latest() for number in self.partitions}
        with self._one_at_a_time:
            found = self._admin.list_offsets(wanted, request_timeout=ANSWER_S)
            return {place.partition: answer.result(PATIENCE_S).offset for place, answer in found.items()}

    def lag(self, name: str, ends: Mapping[int, int]) -> int:
        """Return how many records before these ends the group has not committed."""
        committed = self.committed(name)
        return sum(max(0, end - committed[number]) for number, end in ends.items())

    def _connect(self) -> None:
        """Make the client anew: one from before a broker's stop goes on with the addresses from then."""
        with self._one_at_a_time:
            self._admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})

    def answers(self) -> bool:
        """Return whether the broker serves."""
        try:
            self._admin.list_topics(timeout=ANSWER_S)
        except KafkaException:
            return False
        return True

    def generations(self) -> dict[str, int]:
        """Return how often each group has shared its partitions anew, as the broker has written it down."""
        found: dict[str, set[int]] = {name: set() for name in self.names.values()}
        for message in messages(self._bootstrap, "__consumer_offsets"):
            group, generation = _generation(message.key(), message.value())
            if group in found:
                found[group].add(generation)
        return {name: len(found[real]) for name, real in self.names.items()}


def _generation(key: Any, value: Any) -> tuple[str, int]:
    """Return the group and its generation from a record of __consumer_offsets; an empty name for other records."""
    if not key or not value or struct.unpack_from(">h", key)[0] != _GROUP_METADATA:
        return "", 0
    (length,) = struct.unpack_from(">h", key, 2)
    group = key[4 : 4 + length].decode()
    # Version, type of protocol as a string with its length, generation.
    (kind_length,) = struct.unpack_from(">h", value, 2)
    return group, struct.unpack_from(">i", value, 4 + kind_length)[0]


def lags(groups: Groups, names: Iterable[str]) -> dict[str, int]:
    """Return the lag of each group that has one, by name."""
    ends = groups.ends()
    return {name: lag for name in names if (lag := groups.lag(name, ends))}
