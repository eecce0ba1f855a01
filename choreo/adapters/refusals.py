"""What every home refuses, in one wording: events that cannot be kept, names that are not there. Knows no storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from choreo.adapters.membership import Ticket
from choreo.core.errors import ConflictError, LeaseLostError, NotFoundError, SettingsError
from choreo.core.events import Envelope


def admit(topic: str, events: Iterable[Envelope]) -> None:
    """Raises ConflictError on an event that could never be found again: without a key, or with one that is no text."""
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


def no_topic(topic: str) -> NotFoundError:
    """The error of a topic that was never created."""
    return NotFoundError("there is no such topic", where=f"topic {topic!r}", remedy="Create it before using it.")


def no_partition(topic: str, partition: int, partitions: int) -> NotFoundError:
    """The error of a partition beyond the topic's count."""
    return NotFoundError(
        f"there is no partition {partition}",
        where=f"topic {topic!r}",
        remedy=f"Its partitions are 0 to {partitions - 1}.",
    )


def wrong_count(topic: str, existing: int, wanted: int) -> SettingsError:
    """The error of a topic that exists otherwise than it is declared."""
    return SettingsError(
        f"it has {existing} partitions, not {wanted}",
        where=f"topic {topic!r}",
        remedy=f"Set partitions to {existing}: another count would move keys, and with them their order.",
    )


def no_letter(letter_id: str) -> NotFoundError:
    """The error of an id that is no letter's."""
    return NotFoundError(
        f"there is no dead letter {letter_id!r}",
        where="dead letters",
        remedy="`choreo dlq list` shows those there are.",
    )


def lease_lost(ticket: Ticket, partitions: Sequence[int]) -> LeaseLostError:
    """The error of a commit for partitions that are not the member's."""
    return LeaseLostError(
        f"partitions {list(partitions)} belong to another member now; nothing of this work was written",
        where=ticket.place,
        remedy="Drop the work: the new owner does it again from the committed offset.",
    )


def bad_count(topic: str, partitions: int) -> SettingsError:
    """The error of a topic that would have no partition."""
    return SettingsError(
        f"{partitions} is no number of partitions", where=f"topic {topic!r}", remedy="Give it 1 or more."
    )
