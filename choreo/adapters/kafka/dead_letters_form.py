"""A dead letter as a Kafka message and back: the event it is about, and a header with all else.

A letter that does not fit keeps, instead of its record's bytes, where they stand in the log and their digest.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from confluent_kafka import Message

from choreo.adapters.kafka.records import Outgoing, event_of, headers_of
from choreo.core.events import Record
from choreo.ports.dead_letters import DeadLetter

LETTER_HEADER = "choreo_letter"
REDRIVEN_HEADER = "choreo_redriven"
TEXT_MAX = 1_000
"""Characters kept of each text in a letter that does not fit: some 20 KB with all of them."""


class About(msgspec.Struct, omit_defaults=True):
    """What a letter says besides its event, as JSON in one header."""

    id: str
    topic: str
    partition: int
    offset: int
    service: str
    step: str
    cause: str
    set_aside_ms: int
    stamp_ms: int
    key: str = ""
    digest: str = ""
    """SHA-256 of the bytes that the letter was too large to hold; they stand where the record does."""
    bytes: int = 0
    """How many those are."""


def message_of(letter: DeadLetter) -> Outgoing:
    """Return the letter as a message that holds its record's bytes."""
    event = letter.record.event
    headers = [*headers_of(event), (LETTER_HEADER, msgspec.json.encode(_about_of(letter)))]
    return letter.id.encode(), event.data, headers


def short_message_of(letter: DeadLetter) -> Outgoing:
    """Return the letter without its record's bytes: every text in it is cut, whatever a foreign producer put there."""
    event = letter.record.event
    short = {name: value[:TEXT_MAX] for name, value in msgspec.structs.asdict(event).items() if isinstance(value, str)}
    about = msgspec.structs.replace(
        _about_of(letter),
        cause=f"{letter.cause[:TEXT_MAX]} (its {len(event.data):,} bytes do not fit into a letter)",
        key=event.key[:TEXT_MAX],
        digest=digest(event.data),
        bytes=len(event.data),
    )
    headers = headers_of(msgspec.structs.replace(event, **short, data=b""))
    return letter.id.encode(), b"", [*headers, (LETTER_HEADER, msgspec.json.encode(about))]


def _about_of(letter: DeadLetter) -> About:
    return About(
        letter.id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.service,
        letter.step,
        letter.cause.encode(errors="replace").decode(),  # an error's text may hold what UTF-8 has no bytes for
        letter.set_aside_ms,
        letter.record.stamp_ms,
        letter.record.event.key,
    )


def digest(data: bytes) -> str:
    """Return the digest that a letter keeps of bytes."""
    return hashlib.sha256(data).hexdigest()


def letter_of(about: About, message: Message, redriven: int) -> DeadLetter:
    """Return the letter in a message, given back so often."""
    place = (about.topic, about.partition, about.offset)
    event = event_of(message.headers() or (), about.key.encode(), message.value(), about.topic)
    record = Record(*place, about.stamp_ms, event)
    return DeadLetter(about.id, *place, about.service, about.step, about.cause, about.set_aside_ms, record, redriven)


def about_in(message: Message) -> About | None:
    """Return what a message says of a letter; None if it is none of ours, whatever its header says."""
    try:
        return _decode(_header(message, LETTER_HEADER))
    except msgspec.MsgspecError:
        return None


def redriven_in(message: Message) -> str:
    """Return the id of the letter that a message counts as given back; "" if it does not."""
    return (message.key() or b"").decode(errors="replace") if _header(message, REDRIVEN_HEADER) else ""


def redriven_message(letter_id: str) -> Outgoing:
    """Return the message that counts one more redrive."""
    return letter_id.encode(), b"", [(REDRIVEN_HEADER, b"1")]


def _header(message: Message, name: str) -> bytes:
    headers: Any = message.headers() or ()
    values = [value for header, value in headers if header == name and isinstance(value, bytes)]
    return values[-1] if values else b""


_decode = msgspec.json.Decoder(About).decode
