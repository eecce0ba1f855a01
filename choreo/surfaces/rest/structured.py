"""Take a CloudEvent in structured mode where an event is published: it becomes the body that the route knows.

Plain ASGI, behind the bound on bodies. Its id and source are its Idempotency-Key, unless the request names one: a
sender that repeats an event publishes it once.
"""

from __future__ import annotations

import json
from hashlib import blake2b

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from choreo.core.structured import binary_of, is_structured
from choreo.surfaces.rest.problems import problem

_EVENTS = "/events"
_REQUIRED = ("ce_id", "ce_source", "ce_type")


class Structured:
    """Turn the body of `POST …/events`, where it is said to be `application/cloudevents+json`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is of another type as it is."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(_EVENTS):
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
            turned, more = _turned(body)
        except HTTPException as error:
            await problem(scope["path"], error.status_code, error.detail, headers=error.headers)(scope, receive, send)
            return
        except ValueError as error:
            refusal = problem(scope["path"], 422, str(error), kind="invalid", where="body", remedy=_REMEDY)
            await refusal(scope, receive, send)
            return
        headers = {**more, **headers, b"content-type": b"application/json"}
        await self._app({**scope, "headers": list(headers.items())}, _once(turned, receive), send)


_REMEDY = "Send specversion 1.0, id, source, type, and in data the event's fields as a JSON object."


def _turned(body: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The body of the route, and the headers that go with it; raises ValueError."""
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
    if "traceparent" in headers:
        more[b"traceparent"] = headers["traceparent"].encode("latin-1", "replace")
    return b'{%s, "fields": %s}' % (", ".join(parts).encode(), data), more


async def _whole(receive: Receive) -> bytes | None:
    """The body; None where the client left."""
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def _once(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
