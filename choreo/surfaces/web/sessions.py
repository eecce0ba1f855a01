"""Sessions of the page: a random text in a cookie stands for a credential, which this process keeps in memory.

Every request asks access control about the credential again, so that a revoked key ends its session at once. Nothing is
written; a restart ends all sessions. Several processes behind one address need sticky connections.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from starlette.types import Scope

from choreo.ports.clock import Clock
from choreo.surfaces.rest.access import authorization_of

COOKIE = "choreo_session"
SESSION_S = 12 * 3_600
"""A working day; after it the key is asked for again."""
SESSIONS_MAX = 10_000
"""Some 3 MB; beyond it the oldest sessions end."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_BYTES = 32


class _Session(NamedTuple):
    credential: str
    until_ms: int


class Sessions:
    """The open sessions, by the hash of their tokens: a look-up takes no longer for a token that is nearly right."""

    def __init__(self, clock: Clock) -> None:
        """Begin without any."""
        self._clock = clock
        self._open: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, credential: str) -> str:
        """Begin a session; return its token."""
        token = secrets.token_urlsafe(_BYTES)
        self._open[_hash(token)] = _Session(credential, self._clock.elapsed_ms() + SESSION_S * 1_000)
        if len(self._open) > SESSIONS_MAX:
            self._open.popitem(last=False)
        return token

    def credential(self, token: str) -> str:
        """Return the credential of a session; "" for a token of none, or of one that is over."""
        key = _hash(token)
        session = self._open.get(key)
        if session is not None and session.until_ms <= self._clock.elapsed_ms():
            del self._open[key]
            return ""
        return session.credential if session else ""

    def end(self, token: str) -> None:
        """End a session; one that is over already stays so."""
        self._open.pop(_hash(token), None)

    def is_open(self, scope: Scope) -> bool:
        """Return whether a request belongs to a session."""
        return bool(self.credential(token_in(scope)))

    def authorization(self, scope: Scope) -> list[str]:
        """Return the values of Authorization for a request: its own, or else that of its session."""
        own = authorization_of(scope)
        credential = "" if own else self.credential(token_in(scope))
        return [f"Bearer {credential}"] if credential else own


def token_in(scope: Scope) -> str:
    """Return the token in a request's cookie; "" for none, and for a text of another form."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if morsel and _TOKEN.fullmatch(morsel.value):
                return morsel.value
    return ""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
