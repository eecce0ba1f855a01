"""Accept a CloudEvent in structured mode where an event is published: convert it to the body that the route knows.

Plain ASGI, behind the bound on bodies. Its id and source become its Idempotency-Key, unless the request names one: a
sender that repeats an event publishes it once.
"""

from __future__ import annotations

import json
from hashlib import blake2b

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from choreo.core.events import SENT_ON
from choreo.core.structured import binary_of, is_structured
from choreo.surfaces.rest.problems import problem

EVENTS = "/events"
"""End of the path of the route that publishes."""
_REQUIRED = ("ce_id", "ce_source", "ce_type")


class Structured:
    """Converts the body of `POST …/events` if its type is `application/cloudevents+json`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request of another type on unchanged."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(EVENTS):
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name != b"content-length"}
        if not is_structured(headers.get(b"content-type", b"").decode("latin-1")):
            await self._app(scope, receive, send)
            return
        try:
            body = await _whole(receive)
            if body is None:
                return
            converted, more = _converted(body)
        except HTTPException as error:
            await problem(scope["path"], error.status_code, error.detail, headers=error.headers)(scope, receive, send)
            return
        except ValueError as error:
            refusal = problem(scope["path"], 422, str(error), kind="invalid", where="body", remedy=_REMEDY)
            await refusal(scope, receive, send)
            return
        headers = {**more, **headers, b"content-type": b"application/json"}
        await self._app({**scope, "headers": list(headers.items())}, _once(converted, receive), send)


_REMEDY = "Send specversion 1.0, id, source, type, and in data the event's fields as a JSON object."


def _converted(body: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the body of the route, and its headers; raises ValueError."""
    headers, data = binary_of(body)
    missing = [name.removeprefix("ce_") for name in _REQUIRED if not headers.get(name)]
    if missing:
        message = f"it has no {', '.join(missing)}"
        raise ValueError(message)
    if data[:1] != b"{":
        message = "its data is no JSON object"
        raise ValueError(message)
    known = {"type": headers["ce_type"], "run": headers.get("ce_choreorun", "")}
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in known.items() if value]
    named = f"{headers['ce_source']}\x1f{headers['ce_id']}".encode()
    more = {b"idempotency-key": blake2b(named, digest_size=20).hexdigest().encode()}
    for name in SENT_ON & headers.keys():
        more[name.encode()] = headers[name].encode("latin-1", "replace")
    return b'{%s, "fields": %s}' % (", ".join(parts).encode(), data), more


async def _whole(receive: Receive) -> bytes | None:
    """Return the body; None where the client disconnected."""
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def _once(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
