"""The bound of an event's size: an event beyond it is refused with its step before anything is published. Pure."""

from __future__ import annotations

from choreo.core.errors import SchemaError
from choreo.core.events import Envelope


def check_size(event: Envelope, bytes_max: int, where: str) -> None:
    """Raise SchemaError where an event is larger than the log takes."""
    size = len(event.data) + len(event.key.encode(errors="replace"))
    if size > bytes_max:
        raise SchemaError(
            f"{event.type} of {size:,} bytes does not fit into the log, which takes {bytes_max:,}",
            where=where,
            remedy=(
                "Keep large content elsewhere and its address in the event; or raise max.message.bytes of the topic "
                "and CHOREO_KAFKA_MESSAGE_MAX_BYTES of every role."
            ),
        )
