"""Refuse a request that a page of another origin makes a browser send: by its Host and by its origin.

Plain ASGI, before routing: a route that is added later is guarded too. Knows nothing of users or passwords.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from choreo.surfaces.rest.problems import problem

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing here, and a browser hides the answer from a page of another origin."""

_OWN_SITES = frozenset({"same-origin", "none"})
"""Fetch Metadata (W3C): sent by a page of this origin, or by the user directly."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOSTS_KEPT = 1_024


class Refusal(NamedTuple):
    """Why a request is refused."""

    status: int
    what: str
    remedy: str


class Guard:
    """Pass requests that name a host of this process and, where they write, do not come from a foreign page."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        """Take the process's host names, beside the loopback's; `*.example.org` stands for all names below it."""
        self._app = app
        self._is_ours = lru_cache(_HOSTS_KEPT)(_checker(allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the refusal."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        answer = problem(scope["path"], refusal.status, refusal.what, where="header", remedy=refusal.remedy)
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if hosts or scope["http_version"] != "1.0":  # HTTP/1.0 has no such header, and no browser uses it
            if len(hosts) > 1:
                return Refusal(400, "the request has more than one Host", "Send one.")
            if not self._is_ours("".join(hosts), (scope.get("server") or ("",))[0]):
                return _not_ours("".join(hosts))
        return None if scope["method"] in SAFE_METHODS else _foreign(scope["headers"], "".join(hosts))


def _foreign(headers: Iterable[tuple[bytes, bytes]], host: str) -> Refusal | None:
    """Return a refusal where a page of another origin sent these headers; a page cannot remove them."""
    for name, value in headers:
        text = value.decode("latin-1")
        if (name == b"sec-fetch-site" and text not in _OWN_SITES) or (
            name == b"origin" and not is_origin_of(text, host)
        ):
            return Refusal(
                403,
                f"a page of another origin may change nothing here ({name.decode()}: {text:.100})",
                "Call from a page of this process, or from a program; a proxy in front must pass on the Host as it is.",
            )
    return None


def is_origin_of(origin: str, host: str) -> bool:
    """Return whether `host`, the Host header, served a page of `origin` (RFC 6454). A proxy may have ended TLS."""
    try:
        parts = urlsplit(origin)
        theirs = (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0))
    except ValueError:
        return False
    match = _HOST.fullmatch(host)
    if match is None or parts.scheme not in _DEFAULT_PORTS:
        return False
    return theirs == (_bare(match[1]), int(match[2] or _DEFAULT_PORTS[parts.scheme]))


def _checker(allowed_hosts: Iterable[str]) -> Callable[[str, str], bool]:
    names = {_bare(name) for name in allowed_hosts if name}
    exact = frozenset(name for name in names if "*" not in name)
    below = (".localhost", *(name[1:] for name in names if name.startswith("*.")))

    def is_ours(header: str, server: str) -> bool:
        """Return whether the Host header names this process; `server` is the address of the connection."""
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        host = _bare(match[1])
        address = _address(host)
        if address is not None:
            # An address cannot be redirected to another machine, as a name can: the connection's address is enough.
            return address.is_loopback or address == _address(server) or host in exact or "*" in names
        return host == "localhost" or host in exact or host.endswith(below) or "*" in names

    return is_ours


def _bare(host: str) -> str:
    """Return a host in its form for comparison: lower case, without brackets, port or the root's dot."""
    match = _HOST.fullmatch(host)
    return (match[1] if match else host).strip("[]").rstrip(".").lower()


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _not_ours(host: str) -> Refusal:
    return Refusal(
        421,
        f"{host!r:.100} is no name of this process" if host else "the request names no Host",
        "Call it by localhost or its address, or add the name to CHOREO_ALLOWED_HOSTS.",
    )
