"""Errors that all backends raise in one wording: events that cannot be stored, unknown names. Knows no storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from choreo.adapters.assignment import MemberId
from choreo.core.errors import ConflictError, LeaseLostError, NotFoundError, SettingsError
from choreo.core.events import Envelope
from choreo.core.wording import counted
from choreo.ports.log import CommitBatch


def admit(topic: str, events: Iterable[Envelope]) -> None:
    """Raise ConflictError on an event that could never be found again: without a key, or with a key that is no text."""
    for event in events:
        if not event.key:
            raise ConflictError(
                "an event without a key belongs to no instance and to no partition",
                where=f"topic {topic!r}, event {event.type!r} {event.id}",
                remedy="Set the key to the instance's business key, such as the order's number.",
            )
        if not event.key.isascii():
            try:
                event.key.encode()
            except UnicodeEncodeError as error:
                raise ConflictError(
                    f"the key {event.key!r} is not text that UTF-8 can hold ({error.reason})",
                    where=f"topic {topic!r}, event {event.type!r} {event.id}",
                    remedy="Use a key of valid Unicode characters.",
                ) from error


def admit_batch(topic: str, commit_batch: CommitBatch) -> None:
    """Raise ConflictError on an event of the batch that could never be found again; see `admit`."""
    admit(topic, commit_batch.outputs)
    for outcome in commit_batch.outcomes:
        admit(topic, outcome.events)


def no_topic(topic: str) -> NotFoundError:
    """Return the error of an unknown topic."""
    return NotFoundError("there is no such topic", where=f"topic {topic!r}", remedy="Create it before using it.")


def no_partition(topic: str, partition: int, partitions: int) -> NotFoundError:
    """Return the error of a partition beyond the topic's count."""
    return NotFoundError(
        f"there is no partition {partition}",
        where=f"topic {topic!r}",
        remedy=f"Its partitions are 0 to {partitions - 1}.",
    )


def wrong_count(topic: str, existing: int, wanted: int) -> SettingsError:
    """Return the error of a topic whose partition count differs from its declaration."""
    return SettingsError(
        f"it has {counted(existing, 'partition')}, not {wanted}",
        where=f"topic {topic!r}",
        remedy=f"Set partitions to {existing}: another count would move keys, and with them their order.",
    )


def no_dead_letter(dead_letter_id: str) -> NotFoundError:
    """Return the error of an unknown dead letter."""
    return NotFoundError(
        f"there is no dead letter {dead_letter_id!r}",
        where="dead letters",
        remedy="`choreo dlq list` shows those there are.",
    )


def lease_lost(member_id: MemberId, partitions: Sequence[int]) -> LeaseLostError:
    """Return the error of a commit for partitions that the member does not own."""
    return LeaseLostError(
        f"partitions {list(partitions)} belong to another member now; nothing of this work was written",
        where=member_id.place,
        remedy="Drop the work: the new owner does it again from the committed offset.",
    )


def bad_count(topic: str, partitions: int) -> SettingsError:
    """Return the error of a topic without partitions."""
    return SettingsError(
        f"{partitions} is no number of partitions", where=f"topic {topic!r}", remedy="Give it 1 or more."
    )
