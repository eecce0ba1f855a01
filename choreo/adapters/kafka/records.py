"""Events as Kafka messages and back: key and value are bytes, everything else is headers (CloudEvents, binary mode).

Whatever stands in a topic, `record_of` gives a record for it: what cannot be read becomes `choreo.Unreadable`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from confluent_kafka import Message

from choreo.core.events import Envelope, Record, from_headers, to_headers
from choreo.core.facts import UNREADABLE

TYPE_HEADER = "ce_type"

NUMBER_MAX = 2**53

Headers = list[tuple[str, str | bytes | None]]
Outgoing = tuple[bytes, bytes, Headers]
"""Key, value, headers."""


def _read_headers() -> frozenset[str]:
    """Every header that is written, of an event in which each field has a value of its own."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Envelope):
        kind = str if field.default is msgspec.NODEFAULT else type(field.default)
        values[field.name] = {str: "-", int: 7, bool: True, bytes: b"-"}[kind]
    return frozenset(to_headers(Envelope(**values)))


_READ = _read_headers()
"""Others, such as a tracing library's, may hold any bytes and are not looked at."""


def headers_of(event: Envelope) -> Headers:
    """The event's headers as bytes. What UTF-8 has no bytes for, in an error's text for one, is replaced."""
    return [(name, text.encode(errors="replace")) for name, text in to_headers(event).items()]


def message_of(event: Envelope) -> Outgoing:
    """The event as it is published."""
    return event.key.encode(), event.data, headers_of(event)


def type_of(message: Message) -> bytes:
    """The type as it stands in the header, without decoding anything; b"" if there is none."""
    headers: Any = message.headers() or ()
    for name, value in headers:
        if name == TYPE_HEADER:
            return value if isinstance(value, bytes) else b""
    return b""


def record_of(message: Message, topic: str) -> Record:
    """The message's record in the flow's topic, by the name that choreo knows it by."""
    return Record(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        event_of(message.headers() or (), message.key(), message.value(), topic),
    )


def event_of(headers: Any, key: Any, value: Any, flow: str) -> Envelope:
    """The event in a message. A value that is missing (a tombstone) is an event without data."""
    data = value or b""
    try:
        texts = {name: text.decode() for name, text in headers if text is not None and name in _READ}
        event = from_headers(texts, key=(key or b"").decode(), flow=flow, data=data)
        _check_numbers(event)
    except (ValueError, OverflowError) as error:
        return _unreadable(headers, key, data, flow, str(error))
    if not event.type:
        return _unreadable(headers, key, data, flow, f"it has no {TYPE_HEADER} header")
    if event.source == f"choreo/{event.flow}":
        # Written where the event names none (`to_headers`).
        return msgspec.structs.replace(event, source="")
    return event


def _check_numbers(event: Envelope) -> None:
    """Raises ValueError on one that no state and no JSON could hold: a foreign header may say anything."""
    numbers = (event.attempt, event.version, event.hops, event.round, event.n, event.outcome, event.due_ms)
    if max(*numbers, event.deadline_ms) > NUMBER_MAX or min(*numbers, event.deadline_ms) < -NUMBER_MAX:
        raise ValueError("a number in its headers is beyond 2**53")


def _unreadable(headers: Any, key: Any, data: bytes, flow: str, why: str) -> Envelope:
    texts = {name: text.decode(errors="replace") for name, text in headers if text is not None}
    type_ = texts.get(TYPE_HEADER, "")
    about = f"a record of type {type_!r} cannot be read: {why}" if type_ else why
    return Envelope(
        texts.get("ce_id", ""), UNREADABLE, (key or b"").decode(errors="replace"), flow, reason=about, data=data
    )
