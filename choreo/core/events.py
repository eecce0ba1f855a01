"""The envelope of an event and its position in the log.

The tracker and the hosts decide by the fields here, which travel in headers; the payload stays bytes. The header names
are CloudEvents 1.0 (Kafka binding, binary mode) with choreo's extensions. Knows nothing of any transport.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

TRACKER_JSON = "application/json; source=tracker"
"""Content type of a domain event that the tracker makes: its key is the text of the message key, whether or not the
field is a text, and its `reason` is a sentence, even where the class allows only some values."""


class Envelope(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """An event as it is published: its key, its producer, its cause, and its payload. Times are epoch milliseconds."""

    id: str
    type: str
    key: str
    flow: str
    run: str = ""
    """Id of the start event of the run; empty on an event from outside that does not know it."""
    step: str = ""
    """`service.step` that made this event, or that this fact is about."""
    causation: str = ""
    """Id of the event that caused this one: the trigger of an outcome, the request that a compensation answers."""
    trigger: str = ""
    """On a fact of the tracker about a step: the id of the event that triggered the step."""
    attempt: int = 0
    version: int = 1
    hops: int = 0
    """Number of triggers between the run's start and this event; bounds a cycle."""
    certain: bool = False
    """On a failed or skipped outcome: it certainly left no effect."""
    entry: str = ""
    """The ledger entry this fact is about."""
    round: int = 0
    n: int = 0
    """Number in its series: of a pause, of a compensation's answers read so far, of a repeated end fact. On a StepHeld:
    of the pause for which the step is held. On a StepRetryDue: of the newest pause or resume that the tracker has
    read."""
    outcome: int = -1
    """Offset in this partition. On a compensation request: of the outcome to undo, -1 when the entry is in doubt. On a
    StepRetryDue: the same for a compensation, else of the trigger. On a Redriven: of the dead record."""
    due_ms: int = 0
    """On a timer fact: the time at which it became true."""
    deadline_ms: int = 0
    """On a StepRetryDue: time at which the step or the compensation is given up, not counting pauses."""
    reason: str = ""
    source: str = ""
    time_ms: int = 0
    traceparent: str = ""
    content_type: str = ""
    data: bytes = b""
    moved: bool = False
    """Whether the tracker published this record once more, in its key's partition: at most once per record."""
    nothings: int = 0
    """On a StepRetryDue about a compensation: `n` of the request that it repeats."""
    parent: str = ""
    """On the start and the ChildEnded of a child flow: its place in the parent (crossing.py)."""
    tracestate: str = ""
    baggage: str = ""
    """W3C Baggage, as it is written; passed on with the trace context (baggage.py)."""
    pauses: int = 0
    """On a timer fact: `n` of the newest pause or resume that its tracker has read."""
    actor: str = ""
    """On an operator's fact: its author, as `method/name` (access.py)."""
    build: str = ""
    """The build whose hosts run the steps of the run; "": the hosts without a build."""


class Position(NamedTuple):
    """The position of an event in the log."""

    topic: str
    partition: int
    offset: int


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event read from the log, with its position and the log's own timestamp (epoch milliseconds)."""

    topic: str
    partition: int
    offset: int
    stamp_ms: int
    event: Envelope
    log_id: str = ""
    """Distinguishes the log from earlier ones of the same flow; empty for a flow's first log."""
    fields: Mapping[str, Any] | None = None
    """The payload's fields; decoded only where the flow's branches need them."""
    unreadable: str = ""
    """Why the fields that are needed could not be decoded."""

    @property
    def position(self) -> Position:
        """Return the record's position."""
        return Position(self.topic, self.partition, self.offset)


# Envelope field → header; the code below forms the rest of the CloudEvents headers. One table for both directions.
_EXTENSIONS: dict[str, str] = {
    "flow": "ce_choreoflow",
    "run": "ce_choreorun",
    "step": "ce_choreostep",
    "causation": "ce_causationid",
    "trigger": "ce_choreotrigger",
    "attempt": "ce_choreoattempt",
    "version": "ce_choreoversion",
    "hops": "ce_choreohops",
    "certain": "ce_choreocertain",
    "entry": "ce_choreoentry",
    "round": "ce_choreoround",
    "n": "ce_choreon",
    "nothings": "ce_choreonothings",
    "outcome": "ce_choreooutcome",
    "due_ms": "ce_choreodue",
    "deadline_ms": "ce_choreodeadline",
    "reason": "ce_choreoreason",
    "traceparent": "traceparent",
    "content_type": "content-type",
    "moved": "ce_choreomoved",
    "parent": "ce_choreoparent",
    "tracestate": "tracestate",
    "baggage": "baggage",
    "pauses": "ce_choreopauses",
    "actor": "ce_choreoactor",
    "build": "ce_choreobuild",
}
SENT_ON = frozenset({"traceparent", "tracestate", "baggage"})
"""Headers of the W3C, under their own names: handlers send them on in calls to other systems."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FLAGS = frozenset({"certain", "moved"})
_NUMBERS = frozenset(
    {"attempt", "version", "hops", "round", "n", "nothings", "outcome", "due_ms", "deadline_ms", "pauses"}
)
_NUMBER = re.compile(r"-?[0-9]{1,20}\Z")
NUMBER_MAX = 2**53
"""The greatest number in a header: every store, client and language holds it exactly."""
EARLIEST_MS, LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The range of calendar times: the first moment of year 1 and the last of year 9999, in UTC."""

_DEFAULTS: dict[str, Any] = {f.name: f.default for f in msgspec.structs.fields(Envelope)}


UNNAMED_SOURCE = "unnamed"
"""Source of a foreign event that has an id and names no source: all such ids belong to one source."""


def to_headers(event: Envelope) -> dict[str, str]:
    """Return the event's headers in CloudEvents binary mode; fields with their default are left out."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event.type,
        "ce_source": event.source or f"choreo/{event.flow}",
        "ce_time": _written(event.time_ms),
    }
    for field, header in _EXTENSIONS.items():
        value = getattr(event, field)
        if value != _DEFAULTS[field]:
            headers[header] = "true" if value is True else str(value)
    return headers


def from_headers(headers: dict[str, str], *, key: str, flow: str, data: bytes) -> Envelope:
    """Return the event in a record; fields that a foreign producer left out stay empty.

    Raises ValueError on a malformed number or time; a time without a zone is taken as UTC.
    """
    values: dict[str, Any] = {}
    for field, header in _EXTENSIONS.items():
        text = headers.get(header)
        if text is not None:
            text = sent_on(text) if header in SENT_ON else text
            values[field] = number(text) if field in _NUMBERS else text == "true" if field in _FLAGS else text
    values.setdefault("flow", flow)
    return Envelope(
        id=headers.get("ce_id", ""),
        type=headers.get("ce_type", ""),
        key=key,
        source=headers.get("ce_source", "") or (UNNAMED_SOURCE if headers.get("ce_id") else ""),
        time_ms=_milliseconds(headers.get("ce_time", "")),
        data=data,
        **values,
    )


def sent_on(text: str) -> str:
    """Return the text of a header that handlers send on; "" if it has what no header may have (RFC 9110, 5.5)."""
    return "" if _CONTROL.search(text) else text


def number(text: str | bytes) -> int:
    """Return the number in a header; raises ValueError if it is not a number, or one that a store cannot hold."""
    plain = text.isdigit() and text.isascii()
    if not plain and not _NUMBER.match(text if isinstance(text, str) else text.decode("latin-1")):
        message = f"{text!r:.60} in its headers is no number"
        raise ValueError(message)
    value = int(text)
    if abs(value) > NUMBER_MAX:
        message = "a number in its headers is beyond 2**53"
        raise ValueError(message)
    return value


def _written(time_ms: int) -> str:
    """Return a time as CloudEvents writes it; outside of the calendar, the nearest calendar time."""
    moment = datetime.fromtimestamp(min(max(time_ms, EARLIEST_MS), LATEST_MS) / 1000, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _milliseconds(moment: str) -> int:
    if not moment:
        return 0
    read = datetime.fromisoformat(moment)
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)
