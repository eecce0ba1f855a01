"""The public keys of a provider (JWKS, RFC 7517), from a file or a URL: kept, and got again for an unknown key id.

Bounded: at most one request in `REFRESH_MS`, each with a time-out and a limit of bytes, without redirections. A token
with an invented key id makes no more requests than that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from choreo.core.errors import SettingsError, UnavailableError
from choreo.ports.clock import Clock

REFRESH_MS = 10_000
"""Providers publish a new key long before they sign with it: ten seconds are soon enough for a forgotten one."""
KEEP_MS = 3_600_000
"""A key that the provider has withdrawn is not used longer than an hour."""
TIMEOUT_S = 5
BYTES_MAX = 1 << 20

Jwk = Mapping[str, Any]

_log = logging.getLogger(__name__)


class KeySource:
    """The keys of one provider."""

    def __init__(self, place: str, clock: Clock) -> None:
        """Take the URL or the path; raises SettingsError on a URL that could be tampered with on its way."""
        self._place = place
        self._is_url = "://" in place
        self._clock = clock
        self._keys: Sequence[Jwk] = ()
        self._got_ms = -KEEP_MS
        self._asked_ms = -REFRESH_MS
        self._asking = asyncio.Lock()
        if self._is_url and not _is_safe(place):
            raise SettingsError(
                f"{place} is no https URL", where="setting oidc_jwks", remedy="Use https, or the path of a file."
            )

    async def with_id(self, kid: str | None) -> list[Jwk]:
        """Return the keys of this id, or every key where the token names none; raises UnavailableError."""
        now_ms = self._clock.elapsed_ms()
        if now_ms - self._got_ms >= KEEP_MS or not self._named(kid):
            await self._refresh()
        if self._clock.elapsed_ms() - self._got_ms >= KEEP_MS:
            raise UnavailableError(
                "the provider's keys cannot be had now",
                where=self._place,
                remedy="See that it answers; the log of this process has the cause.",
            )
        return self._named(kid)

    def _named(self, kid: str | None) -> list[Jwk]:
        return [key for key in self._keys if kid is None or key.get("kid") == kid]

    async def _refresh(self) -> None:
        """Get the keys again, unless that was tried a moment ago; keep the old ones where it fails."""
        async with self._asking:
            now_ms = self._clock.elapsed_ms()
            if now_ms - self._asked_ms < REFRESH_MS:
                return
            self._asked_ms = now_ms
            try:
                self._keys = _keys_in(await asyncio.to_thread(self._content))
                self._got_ms = now_ms
            except (OSError, URLError, HTTPException, ValueError) as error:
                _log.warning("the keys at %s cannot be had: %s", self._place, error)

    def _content(self) -> bytes:
        if not self._is_url:
            return Path(self._place).read_bytes()
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(self._place, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            message = f"the answer has more than {BYTES_MAX} bytes"
            raise ValueError(message)
        return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it could lead to a place that the setting does not name."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request; urllib then raises an error for the answer."""
        return


def _keys_in(content: bytes) -> list[Jwk]:
    """Return the public keys for signatures in a set; raises ValueError."""
    try:
        found = json.loads(content)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list):
        message = "it is no JSON Web Key Set"
        raise ValueError(message)  # noqa: TRY004 - the content is wrong, not a type of this program
    return [
        key
        for key in keys
        if isinstance(key, dict) and key.get("kty") in ("RSA", "EC") and key.get("use", "sig") == "sig"
    ]


def _is_safe(url: str) -> bool:
    """Return whether nobody between here and the provider can replace its keys."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    host = parts.hostname or ""
    try:
        return parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False
