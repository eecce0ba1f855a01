"""The parameters of routes: keys and other path segments, times, paging, read-your-writes. Each checks its value."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from choreo.app.limits import DOT_NAMES, KEY_LENGTH_MAX, KEY_PATTERN, checked_key
from choreo.app.query.read_your_writes import POSITION_PATTERN, position_of
from choreo.core.baggage import Carried
from choreo.core.errors import DecodeError
from choreo.surfaces.rest.use_cases import Injected

WAIT_S_DEFAULT = 2.0
WAIT_S_MAX = 30.0
"""Below the 60 s after which proxies commonly give up."""

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?=$|[,;\s])")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_TRACESTATE = re.compile(r"[\t\x20-\x7e]{0,512}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_WHOLE = re.compile(r"-?\d{1,18}")


def _decoded(text: object) -> str:
    try:
        return unquote_to_bytes(str(text)).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(
            f"{text!s:.100} is not UTF-8 when decoded", where="path", remedy="Percent-encode the key's UTF-8 bytes."
        ) from error


def _key(text: object) -> str:
    return checked_key(_decoded(text))


def _whole(text: object) -> object:
    if isinstance(text, str) and not _WHOLE.fullmatch(text):
        message = "is no whole number"
        raise ValueError(message)
    return text


def _epoch_ms(text: object) -> int:
    try:
        if isinstance(text, str) and _RFC3339.fullmatch(text):
            return max(0, int(datetime.fromisoformat(text.upper()).timestamp() * 1_000))
    except (ValueError, OverflowError) as error:
        message = f"is no moment: {error}"
        raise ValueError(message) from error
    message = f"is no RFC 3339 time, such as {datetime(2026, 1, 1, tzinfo=UTC).isoformat()}"
    raise ValueError(message)


FlowName = Annotated[str, BeforeValidator(_decoded), Path(description="The flow's name.", examples=["order"])]
Key = Annotated[
    str,
    BeforeValidator(_key),
    Path(
        description="The instance's business key, percent-encoded (a slash is `%2F`).",
        examples=["o-1001"],
        json_schema_extra={
            "minLength": 1,
            "maxLength": KEY_LENGTH_MAX,
            "pattern": KEY_PATTERN,
            "not": {"enum": list(DOT_NAMES)},
        },
    ),
]
Segment = Annotated[str, BeforeValidator(_decoded), Path()]
Run = Annotated[str, Query(description="The run's id; without it the key's newest run.", max_length=100)]
At = Annotated[
    str,
    Query(
        description="A position: an offset; also `order/3/42`, or an RFC 3339 time. Without it the present.",
        max_length=300,
        examples=["42"],
        json_schema_extra={"pattern": "^([0-9]{1,15})?$"},
    ),
]
Whole = Annotated[int, BeforeValidator(_whole)]
# Bounds stand before the validator: after it they would be checked, but missing in the API's description.
PageLimit = Annotated[int, Field(ge=1, le=500), BeforeValidator(_whole)]
HistoryLimit = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_whole)]
AfterOffset = Annotated[int, Field(ge=-1, le=2**53), BeforeValidator(_whole)]
Moment = Annotated[
    int,
    BeforeValidator(_epoch_ms),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-01T00:00:00Z"]}),
]
"""An RFC 3339 time in a request, as epoch milliseconds."""


def cursor_like(pattern: str) -> Any:
    """Return the parameter for the cursor of the page before; the list itself refuses an invalid one."""
    extra: dict[str, Any] = {"pattern": _or_empty(pattern)}
    return Query(description="The cursor of the page before, unchanged.", json_schema_extra=extra)


def _or_empty(pattern: str) -> str:
    """Return the pattern with the empty text allowed: a form or a shell script sends an unset parameter so."""
    return f"^({pattern[1:-1]})?$"


def _idempotency_key(text: str) -> str:
    # The header may be quoted, as in the IETF's draft, or plain, as most clients send it.
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text


IdempotencyKey = Annotated[
    str,
    Header(
        description="Publishing again under the same key publishes nothing new.",
        max_length=255,
        pattern=r"^[\x21-\x7e]*$",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
    AfterValidator(_idempotency_key),
]


def traceparent_of(request: Request) -> str:
    """Return the W3C trace context of the request; a malformed one counts as none (Trace Context, 3.2.2)."""
    text = request.headers.get("traceparent", "").strip()
    return text if _TRACEPARENT.fullmatch(text) else ""


def carried_of(request: Request) -> Carried:
    """Return the W3C headers that the event carries on; the trace state counts only beside a trace context."""
    trace = traceparent_of(request)
    state = ",".join(request.headers.getlist("tracestate"))
    baggage = ",".join(request.headers.getlist("baggage"))
    return Carried(baggage, trace, state if trace and _TRACESTATE.fullmatch(state) else "")


def wait_s_of(prefer: str) -> float:
    """Return the `wait` of a Prefer header (RFC 7240) in seconds; an unreadable one counts as none."""
    match = _WAIT.search(prefer)
    return min(float(match[1]), WAIT_S_MAX) if match else WAIT_S_DEFAULT


_POSITION: dict[str, Any] = {
    "description": "A position from the answer to a write: the read waits for it (topic/partition/offset).",
    "examples": ["order/0/0"],
    "json_schema_extra": {"pattern": _or_empty(POSITION_PATTERN)},
}


async def _reached(
    use_cases: Injected,
    choreo_position: Annotated[str, Header(**_POSITION)] = "",
    after: Annotated[str, Query(**_POSITION)] = "",
    prefer: Annotated[str, Header(description="`wait=5`: how many seconds to wait for the position.")] = "",
) -> None:
    for token in (choreo_position, after):
        if token:
            await use_cases.queries.reached(position_of(token), wait_s_of(prefer))


ReadYourWrites: Any = Depends(_reached)
"""Dependency of a route that reads: wait, within bounds, for the caller's own writes."""
