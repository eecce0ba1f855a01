"""Convert an event object to bytes and back. Knows nothing of logs or headers."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

E = TypeVar("E")


class Codec(Protocol):
    """Encodes validated event objects; decodes with the writer's schema into the reader's class."""

    content_type: str
    """Content type of `encode`, for the `content-type` header."""

    def encode(self, event: Any) -> bytes:
        """Return the value of a record. Raises SchemaError when the object does not fit its own contract."""
        ...

    def decode(self, event_class: type[E], content_type: str, data: bytes, *, fills: bool = False) -> E:
        """Return the event in a value of this content type; raises DecodeError with the field and the remedy.

        With `fills` the class may fill in values that it makes anew for each object: the caller writes them. A record
        of the log has to contain them, because each reader would make others.
        """
        ...

    def fields(self, event_class: type[Any] | None, content_type: str, data: bytes) -> dict[str, Any]:
        """Return the event's fields as JSON-ready values, for people: the REST view, `choreo tail`, the timeline.

        A fact of choreo itself has no class.
        """
        ...

    def values(self, event_class: type[Any], content_type: str, data: bytes) -> dict[str, Any]:
        """Return the event's fields as Python values, for conditions; raises DecodeError as `decode` does."""
        ...
