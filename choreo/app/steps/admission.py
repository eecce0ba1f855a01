"""Admission: the records that a step host handles, and folds into its gates."""

from __future__ import annotations

from choreo.core.admission import early_ms
from choreo.core.events import Record
from choreo.core.partition import partition_of


def in_place(record: Record, partitions: int) -> bool:
    """Return whether the record stands in its key's partition and, if it is a timer fact, not before its due time.

    The tracker publishes others again: where they belong, or when they are due.
    """
    event = record.event
    if not event.key or partition_of(event.key, partitions) != record.partition:
        return False
    return not early_ms(record)
