"""The topics' records in lists. Knows offsets and timestamps; knows no groups."""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.errors import bad_count, no_partition, no_topic, wrong_count
from choreo.adapters.notifier import Notifier
from choreo.core.events import Envelope, Position, Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock


class Topics:
    """Every topic as a list of partitions, each a list of records."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._topics: dict[str, list[list[Record]]] = {}
        self.notifier: Notifier = Notifier()

    def create(self, topic: str, partitions: int) -> None:
        """Create the topic unless it exists; raises SettingsError if it has another partition count."""
        if partitions < 1:
            raise bad_count(topic, partitions)
        existing = self._topics.setdefault(topic, [[] for _ in range(partitions)])
        if len(existing) != partitions:
            raise wrong_count(topic, len(existing), partitions)

    def of(self, topic: str) -> list[list[Record]]:
        """Return the topic's partitions; raises NotFoundError."""
        partitions = self._topics.get(topic)
        if partitions is None:
            raise no_topic(topic)
        return partitions

    def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Add each event to its key's partition, stamped now but never below the last timestamp there."""
        partitions = self.of(topic)
        positions = []
        for event in events:
            number = partition_of(event.key, len(partitions))
            records, now_ms = partitions[number], self.now_ms(topic, number)
            stamp_ms = max(now_ms, records[-1].stamp_ms) if records else now_ms
            records.append(Record(topic, number, len(records), stamp_ms, event))
            positions.append(records[-1].position)
        if positions:
            self.notifier.notify(topic, frozenset(event.type for event in events))
        return positions

    def now_ms(self, topic: str, partition: int) -> int:  # noqa: ARG002 - a model of several brokers has a clock for each
        """Return the time with which a record is stamped that is added to this partition now."""
        return self._clock.now_ms()

    def partition(self, topic: str, partition: int) -> list[Record]:
        """Return the records of one partition; raises NotFoundError."""
        partitions = self.of(topic)
        if not 0 <= partition < len(partitions):
            raise no_partition(topic, partition, len(partitions))
        return partitions[partition]
