"""How an event object becomes bytes and back. Knows nothing of logs or headers."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

E = TypeVar("E")


class Codec(Protocol):
    """Encodes validated event objects; decodes with the writer's schema into the reader's class."""

    content_type: str
    """What `encode` writes, for the `content-type` header."""

    def encode(self, event: Any) -> bytes:
        """The value of a record. Raises SchemaError when the object does not fit its own contract."""
        ...

    def decode(self, event_class: type[E], content_type: str, data: bytes) -> E:
        """The event in a value of this content type; raises DecodeError naming the field and the remedy."""
        ...

    def fields(self, event_class: type[Any] | None, content_type: str, data: bytes) -> dict[str, Any]:
        """The event's fields as JSON-ready values, for people: the REST view, `choreo tail`, the timeline.

        Of a fact of choreo's own there is no class.
        """
        ...
