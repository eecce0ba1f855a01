"""One connection of a client: bounds on the time of a request and of an answer, and on the number of connections.

uvicorn bounds the rest between requests. This module bounds a request that never ends, an answer that nobody reads, and
clients that only connect. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from choreo.surfaces.rest.problems import raw_problem

HEAD_S = 10.0
"""A request's head is a packet or two; a client that takes longer is no honest client."""
BODY_S = 30.0
"""1 MiB, the largest body accepted, at 35 kB a second."""
WRITE_S = 30.0
"""How long a write buffer may stay full: a client that reads nothing for that long has gone."""
HEAD_BYTES_MAX = 64 << 10
"""Common servers take 8 to 64 KiB; a key of 512 characters, percent-encoded, is 6 KiB."""
CONNECTIONS_MAX = 1_000
BACKLOG = 512
"""Connections that the kernel queues, and that one iteration of the loop accepts: a burst of clients, no flood."""
BURST_SHARE = 1 / 8
"""Of the descriptors: a burst is accepted before the oldest connections can give way, so it needs room of its own."""
_OFFER = frozenset({b"upgrade", b"http2-settings"})
"""Headers by which a client offers another protocol, as Java's HTTP client offers h2c with every first request."""


@dataclass
class Limits:
    """The bounds of one server's clients, and its connections, the oldest first."""

    head_s: float = HEAD_S
    body_s: float = BODY_S
    write_s: float = WRITE_S
    connections_max: int = CONNECTIONS_MAX
    backlog: int = BACKLOG
    open: dict[Connection, None] = field(default_factory=dict)

    @classmethod
    def of_process(cls, share: float) -> Limits:
        """Return the limits of a server that may take this share of the process's descriptors."""
        descriptors = _descriptors()
        return cls(
            connections_max=min(CONNECTIONS_MAX, int(descriptors * share)),
            backlog=max(1, min(BACKLOG, int(descriptors * BURST_SHARE))),
        )


def _descriptors() -> int:
    if sys.platform == "win32":
        return CONNECTIONS_MAX * 2
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class _Deadline:
    """A deadline for one event at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, missed: Callable[[], None]) -> None:
        self._loop = loop
        self._missed = missed
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Return whether the deadline runs."""
        return self._timer is not None

    def set(self, seconds: float) -> None:
        """Start the deadline this long from now; it replaces an earlier one."""
        self.clear()
        self._timer = self._loop.call_later(seconds, self._passed)

    def clear(self) -> None:
        """Stop the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _passed(self) -> None:
        self._timer = None
        self._missed()


class Connection(HttpToolsProtocol):
    """uvicorn's connection with a deadline for each request and each answer, and with a place in the limits."""

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._request = _Deadline(self.loop, self._too_late)
        self._reader = _Deadline(self.loop, self._gone)
        self._head_bytes = 0
        self._in_head = True
        self._repeats_head = False

    @property
    def waits_for_request(self) -> bool:
        """Return whether no request is being answered: the connection rests, or its request is not complete."""
        cycle = self._cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """Return the newest request whose head is complete; uvicorn's type leaves out that there may be none."""
        return self.cycle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place; if none is free, close the oldest connection that waits for a request, else this one."""
        super().connection_made(transport)
        limits = self._limits
        if len(limits.open) >= limits.connections_max:
            idle = next((other for other in limits.open if other.waits_for_request), None)
            if idle is None:
                self._refuse(503, "there are too many connections", "Try again soon.")
                return
            idle.transport.abort()
            limits.open.pop(idle, None)
        limits.open[self] = None
        self._request.set(limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._limits.open.pop(self, None)
        self._request.clear()
        self._reader.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data to the parser, unless the head has become too large."""
        if not self._request.is_set:
            self._request.set(self._limits.head_s)
        if self._in_head:
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(431, f"the head is larger than {HEAD_BYTES_MAX} bytes", "Send fewer or shorter headers.")
                return
            self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse the data. The parser stops after the head of a request that offers another protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self._repeats_head:
                self._go_on_without_upgrade(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "this is no HTTP request", "Send one as RFC 9112 has it; percent-encode a path's UTF-8.")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its offer (RFC 9110, 7.8: a server may ignore it): its body follows."""
        self._repeats_head = False
        head = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        head += [b"%s: %s" % (name, value) for name, value in self.headers if name not in _OFFER]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join([*head, b"", rest]))

    def on_message_begin(self) -> None:
        """Start the deadline of the head."""
        super().on_message_begin()
        if not self._request.is_set:
            self._request.set(self._limits.head_s)

    def on_headers_complete(self) -> None:
        """Start the deadline of the body."""
        self._repeats_head = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._repeats_head:
            return
        self._in_head = False
        self._request.set(self._limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the deadline: the request is complete."""
        if self._repeats_head:
            return
        self._request.clear()
        self._head_bytes, self._in_head = 0, True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the deadline of the answer: the client must read."""
        super().pause_writing()
        self._reader.set(self._limits.write_s)

    def resume_writing(self) -> None:
        """Stop the deadline: the client reads."""
        self._reader.clear()
        super().resume_writing()

    def _gone(self) -> None:
        self.transport.abort()

    def _too_late(self) -> None:
        if not self.waits_for_request:
            self._request.set(self._limits.head_s)  # the next request comes slowly; the previous one is still answered
        elif self._head_bytes or not self._in_head:
            self._refuse(408, "the request did not come to its end in time", "Send it at once.")
        else:
            self.transport.close()

    def _refuse(self, status: int, what: str, remedy: str) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        cycle = self._cycle
        answered = cycle is not None and cycle.more_body and cycle.response_started
        if not (answered or self.transport.is_closing()):
            self.transport.write(raw_problem(status, what, remedy))
        self.transport.close()
