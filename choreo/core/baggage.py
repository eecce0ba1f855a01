"""Headers that travel through a run: W3C Baggage, and the W3C trace context beside it.

A header is passed on as it is, and parsed only where a handler reads it or where two are merged. A malformed member of
a foreign header is dropped, as the specification allows; a value that choreo itself sets is checked. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from choreo.core.errors import BaggageError
from choreo.core.events import Envelope
from choreo.core.percent import encoded

MEMBERS_MAX = 64
BYTES_MAX = 8_192
"""The limits of W3C Baggage, 3.3.2: every participant passes on so much."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")
_PLAIN = frozenset(b"!#$&'()*+-./:<=>?@[]^_`{|}~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Characters of a value that need no percent-encoding."""
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")

_REMEDY = "Carry an id, and keep the content elsewhere."


class Carried(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The headers that an event passes on to its consequences."""

    baggage: str = ""
    traceparent: str = ""
    tracestate: str = ""


NOTHING = Carried()


def carried_of(event: Envelope) -> Carried | None:
    """Return the headers that the event carries; None if it has none."""
    if event.baggage or event.traceparent:
        return Carried(event.baggage, event.traceparent, event.tracestate)
    return None


def carrying(event: Envelope, carried: Carried | None) -> Envelope:
    """Return the event with these headers in place of its own; unchanged if there are none."""
    if carried is None or carried == carried_of(event):
        return event
    return replace(event, **fields_of(carried))


def fields_of(carried: Carried | None) -> dict[str, Any]:
    """Return the headers as fields of an envelope."""
    one = carried or NOTHING
    return {"baggage": one.baggage, "traceparent": one.traceparent, "tracestate": one.tracestate}


def after(earlier: Carried | None, later: Carried | None) -> Carried | None:
    """Return the headers of two events together: their baggage merged, and the later trace if there is one."""
    if earlier is None or later is None or earlier == later:
        return later or earlier
    trace = later if later.traceparent else earlier
    return Carried(merged(earlier.baggage, later.baggage), trace.traceparent, trace.tracestate)


def traced_by(carried: Carried | None, trigger: Carried | None) -> Carried | None:
    """Return these headers with the trace of the trigger, if the trigger has one."""
    if carried is None or trigger is None or not trigger.traceparent:
        return carried
    return replace(carried, traceparent=trigger.traceparent, tracestate=trigger.tracestate)


def merged(earlier: str, later: str) -> str:
    """Return the members of two headers; of one name the later counts. Beyond a limit the earliest are dropped."""
    if not earlier or not later or earlier == later:
        return later or earlier
    last = _members(later)
    return _fitting({name: text for name, text in _members(earlier).items() if name not in last} | last)


def cleaned(header: str) -> str:
    """Return a foreign header without its malformed members; "" if it is longer than the specification allows."""
    return ",".join(_members(header).values()) if header else ""


def header_of(values: Mapping[str, str] | str) -> str:
    """Return the header of these values, or a foreign header cleaned.

    Raises BaggageError on a name or value that it cannot hold, or on too many.
    """
    if isinstance(values, str):
        return cleaned(values)
    header = BaggageHeader()
    for name, value in values.items():
        header.set(name, value)
    return header.text


class BaggageHeader:
    """The baggage of one attempt: as its trigger has brought it, and as the handler changes it."""

    __slots__ = ("_values", "is_changed", "text")

    def __init__(self, text: str = "") -> None:
        """Take the header as it was read; it is parsed when somebody looks."""
        self.text: str = text
        self.is_changed: bool = False
        self._values: dict[str, str] | None = None

    @property
    def values(self) -> Mapping[str, str]:
        """Return the decoded members, read-only."""
        if self._values is None:
            self._values = {name: _decoded(text) for name, text in _members(self.text).items()}
        return MappingProxyType(self._values)

    def set(self, name: str, value: str) -> None:
        """Add a member, or replace it. Raises BaggageError, and changes nothing, where the header cannot hold it."""
        members = {**_members(self.text), name: f"{_checked(name)}={_encoded(name, value)}"}
        text = ",".join(members.values())
        if len(members) > MEMBERS_MAX or len(text) > BYTES_MAX:
            raise BaggageError(
                f"it would have {len(members)} members and {len(text):,} bytes, "
                f"and at most {MEMBERS_MAX} and {BYTES_MAX:,} are carried",
                where=f"baggage {name}",
                remedy=_REMEDY,
            )
        self.replace(text)

    def replace(self, text: str) -> None:
        """Take another header in place of this one."""
        self.text, self.is_changed, self._values = text, True, None


def _members(header: str) -> dict[str, str]:
    """Return the well-formed members by name, each as it is written; none of a header that is too long."""
    if len(header) > BYTES_MAX:
        return {}
    found: dict[str, str] = {}
    for text in header.split(","):
        member = text.strip(" \t")
        name = _name_of(member)
        if name and (name in found or len(found) < MEMBERS_MAX):
            found[name] = member
    return found


def _name_of(member: str) -> str:
    """Return the name of a member; "" if the member is malformed."""
    pair, *properties = member.split(";")
    name, equals, value = pair.partition("=")
    name = name.rstrip(" \t")
    well = equals and _TOKEN.fullmatch(name) and _VALUE.fullmatch(value.strip(" \t"))
    return name if well and all(map(_is_property, properties)) else ""


def _is_property(text: str) -> bool:
    name, _, value = text.partition("=")
    return bool(_TOKEN.fullmatch(name.strip(" \t")) and _VALUE.fullmatch(value.strip(" \t")))


def _decoded(member: str) -> str:
    value = member.partition(";")[0].partition("=")[2].strip(" \t").encode()
    return _ENCODED.sub(lambda found: bytes([int(found[1], 16)]), value).decode(errors="replace")


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BaggageError(
            f"{name!r:.100} is no name for a member",
            where="baggage",
            remedy="Use letters, digits and any of !#$%&'*+-.^_`|~ without spaces, such as tenant.",
        )
    return name


def _encoded(name: str, value: object) -> str:
    where = f"baggage {name}"
    if not isinstance(value, str):
        raise BaggageError(f"{type(value).__name__} is no text", where=where, remedy="Give a str.")
    try:
        return encoded(value, _PLAIN)
    except UnicodeEncodeError as error:
        raise BaggageError(
            "the value has half of a surrogate pair", where=where, remedy="Give text that UTF-8 can write."
        ) from error


def _fitting(members: dict[str, str]) -> str:
    """Return the header of these members; the first ones are left out as far as the limits demand."""
    size = sum(len(text) + 1 for text in members.values()) - 1
    count = len(members)
    for name in list(members):
        if count <= MEMBERS_MAX and size <= BYTES_MAX:
            break
        size -= len(members.pop(name)) + 1
        count -= 1
    return ",".join(members.values())
