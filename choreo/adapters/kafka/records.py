"""Events as Kafka messages and back: key and value are bytes, everything else is headers (CloudEvents, binary mode).

The headers are `core.events.to_headers`'; tables made from it write and read them as bytes, which costs a third.
`record_of` returns a record for every message of a topic: an unreadable one becomes `choreo.Unreadable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from msgspec.structs import astuple

from choreo.core.baggage import BYTES_MAX
from choreo.core.events import SENT_ON, UNNAMED_SOURCE, Envelope, Record, from_headers, number, sent_on, to_headers
from choreo.core.facts import UNREADABLE
from choreo.core.structured import binary_of, is_structured
from choreo.ports.log import Admits

TYPE_HEADER = "ce_type"
Headers = list[tuple[str, str | bytes | None]]
Outgoing = tuple[bytes, bytes, Headers]
"""Key, value, headers."""

TEXT_BYTES_MAX = 4_096
"""The limit of a key, and of a header that choreo reads: facts repeat the record's texts, and have to fit into the
log too.
"""
_SENT_ON = dict.fromkeys(SENT_ON, TEXT_BYTES_MAX) | {"baggage": BYTES_MAX}
"""Headers of the W3C and their limits: an invalid one is ignored."""
_BLANK = Envelope("", "", "", "")
_CLOUDEVENTS = {"ce_specversion", "ce_id", TYPE_HEADER, "ce_source", "ce_time"}
_PLACE = Envelope.__struct_fields__.index
_ID, _TYPE, _KEY, _FLOW = map(_PLACE, ("id", "type", "key", "flow"))
_SOURCE, _TIME, _DATA, _CONTENT = map(_PLACE, ("source", "time_ms", "data", "content_type"))


class _Header(NamedTuple):
    """How one field of the envelope is written and read."""

    place: int
    name: str
    default: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def message_of(event: Envelope) -> Outgoing:
    """Return the event's message."""
    return event.key.encode(), event.data, headers_of(event)


def headers_of(event: Envelope) -> Headers:
    """Return the event's headers as bytes.

    Characters that UTF-8 cannot encode, as an error's text may have, are replaced.
    """
    values = astuple(event)
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", _text(values[_ID])),
        (TYPE_HEADER, _text(values[_TYPE])),
        ("ce_source", _text(values[_SOURCE] or f"choreo/{values[_FLOW]}")),
        ("ce_time", _moment(values[_TIME])),
    ]
    for place, name, default, encode, _ in _EXTENSIONS:
        value = values[place]
        if value != default:
            headers.append((name, encode(value)))
    return headers


def type_of(headers: Any, message: Message) -> bytes:
    """Return the type from the header, without decoding anything; b"" if there is none.

    A CloudEvent in structured mode has no such header; its type is read from the value.
    """
    for name, value in headers:
        if name == TYPE_HEADER:
            return value if isinstance(value, bytes) else b""
    if not any(name == "content-type" and is_structured((value or b"").decode("latin-1")) for name, value in headers):
        return b""
    return event_of(headers, message.key(), message.value(), "").type.encode(errors="replace")


def is_wanted(types: Iterable[str], admits: Admits | None) -> Callable[[Message], bool]:
    """Return whether a message has one of these types, and a key that `admits` does not refuse."""
    known = {type_.encode(): type_ for type_ in types}

    def check(message: Message) -> bool:
        type_ = known.get(type_of(message.headers() or (), message))
        if type_ is None or admits is None:
            return type_ is not None
        return admits(type_, (message.key() or b"").decode(errors="replace"))

    return check


def log_stamp(message: Message) -> int | None:
    """Return the moment at which the broker appended the message, in epoch ms; None if its stamp is its producer's."""
    kind, stamp_ms = message.timestamp()
    return stamp_ms if kind == TIMESTAMP_LOG_APPEND_TIME else None


def record_of(message: Message, headers: Any, topic: str, stamp_ms: int, log_id: str = "") -> Record:
    """Return the message's record in the flow's topic, by its plain name; `stamp_ms` is the log's time."""
    return Record(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        stamp_ms,
        event_of(headers, message.key(), message.value(), topic),
        log_id,
    )


def event_of(headers: Any, key: Any, value: Any, flow: str) -> Envelope:
    """Return the event in a message. A missing value (a tombstone) is an event without data."""
    data = value or b""
    values = [*_DEFAULTS]
    values[_FLOW] = flow
    values[_DATA] = data
    try:
        values[_KEY] = _bounded("key", key or b"").decode()
        for name, text in headers:
            known = _BY_NAME.get(name)
            if known is not None and text is not None:
                if len(text) > TEXT_BYTES_MAX and len(text) > _SENT_ON.get(name, 0):
                    if name in _SENT_ON:
                        continue
                    _bounded(f"header {name}", text)
                values[known[0]] = known[1](text)
    except (ValueError, OverflowError) as error:
        return _unreadable(headers, key, data, flow, str(error))
    if not values[_TYPE]:
        return _structured(headers, key, data, flow, values[_CONTENT])
    if values[_ID] and not values[_SOURCE]:
        values[_SOURCE] = UNNAMED_SOURCE
    elif values[_SOURCE] == f"choreo/{values[_FLOW]}":
        values[_SOURCE] = ""  # written where the event names none
    return Envelope(*values)


def _bounded(what: str, text: bytes) -> bytes:
    """Return the text; raises ValueError where it is too long."""
    if len(text) > TEXT_BYTES_MAX:
        message = f"its {what} has {len(text):,} bytes, {TEXT_BYTES_MAX:,} at most"
        raise ValueError(message)
    return text


def _structured(headers: Any, key: Any, data: bytes, flow: str, content_type: str) -> Envelope:
    """Return the event of a value that holds all of it; raises on a value without a type."""
    if not is_structured(content_type):
        return _unreadable(headers, key, data, flow, f"it has no {TYPE_HEADER} header")
    try:
        inner, fields = binary_of(data)
    except ValueError as error:
        return _unreadable(headers, key, data, flow, str(error))
    beside = [(name, text) for name, text in headers if name not in inner]
    return event_of([*beside, *((name, text.encode()) for name, text in inner.items())], key, fields, flow)


def _unreadable(headers: Any, key: Any, data: bytes, flow: str, why: str) -> Envelope:
    texts = {name: text.decode(errors="replace") for name, text in headers if text is not None}
    type_ = texts.get(TYPE_HEADER, "")
    about = f"a record of type {type_!r} cannot be read: {why}" if type_ else why
    return Envelope(
        texts.get("ce_id", ""), UNREADABLE, (key or b"").decode(errors="replace"), flow, reason=about, data=data
    )


def _text(value: str) -> bytes:
    return value.encode(errors="replace")


def _ignoring_errors(text: bytes) -> str:
    """Return the text of a header; "" if it is none: a handler sends it on in calls to other systems."""
    try:
        return sent_on(text.decode())
    except UnicodeDecodeError:
        return ""


# The events of a batch share a few moments.
@lru_cache(maxsize=1_024)
def _moment(time_ms: int) -> bytes:
    return to_headers(msgspec.structs.replace(_BLANK, time_ms=time_ms))["ce_time"].encode()


@lru_cache(maxsize=1_024)
def _milliseconds(moment: bytes) -> int:
    return from_headers({"ce_time": moment.decode()}, key="", flow="", data=b"").time_ms


def _extensions() -> list[_Header]:
    """Return the headers beyond CloudEvents' own.

    For each field it is the header that appears when the field has a value of its own.
    """
    coders: dict[type, tuple[Any, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
        str: ("-", _text, bytes.decode),
        int: (7, lambda value: b"%d" % value, number),
        bool: (True, lambda value: b"true" if value else b"False", lambda text: text == b"true"),
    }
    plain = to_headers(_BLANK)
    headers = []
    for place, field in enumerate(msgspec.structs.fields(Envelope)):
        coder = coders.get(str if field.default is msgspec.NODEFAULT else type(field.default))
        if coder is None:
            continue
        changed = to_headers(msgspec.structs.replace(_BLANK, **{field.name: coder[0]})).items() - plain.items()
        own = {name for name, _ in changed} - _CLOUDEVENTS
        headers += [_Header(place, name, field.default, coder[1], coder[2]) for name in own]
    return headers


_EXTENSIONS = _extensions()
_DEFAULTS = astuple(_BLANK)
_BY_NAME: dict[str, tuple[int, Callable[[bytes], Any]]] = {
    "ce_id": (_ID, bytes.decode),
    TYPE_HEADER: (_TYPE, bytes.decode),
    "ce_source": (_SOURCE, bytes.decode),
    "ce_time": (_TIME, _milliseconds),
    **{header.name: (header.place, header.decode) for header in _EXTENSIONS},
    **{header.name: (header.place, _ignoring_errors) for header in _EXTENSIONS if header.name in _SENT_ON},
}
"""Other headers, such as a tracing library's, may hold any bytes and are ignored."""
