"""Remove secrets from texts: one place for URLs, for settings of clients, logs and errors.

Two means. A URL in any text loses the part before its `@`. The secrets of this process's own settings are learned when
the settings are read, and are cut out of every text that leaves it, in each form that a library may give them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"

LENGTH_MIN = 4
"""Shorter secrets would be found inside of ordinary words; as parts of a URL they are cut out all the same."""

PART_MAX = 1 << 16
"""Most characters of a text of unknown length: far above any traceback."""

_SECRET_NAME = re.compile(
    r"passw|secret|token|credential|jaas|oauthbearer[._]config|user[._]info|private|api[._-]?key(?!s$)|\.pem$|_pem$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^\s/]*@")
_NAMED = r"(?i)\b(?=\w*(?:passw|secret|token))\w+"  # looks at each word once, however long it is
_ASSIGNED = re.compile(_NAMED + r"=([^\s&\"']+)")
_QUOTED = re.compile(_NAMED + r"""(?:=|(["'])\s*:\s*)(?P<quote>["'])((?:(?!(?P=quote)).)+)""")
"""A setting as code, a dictionary or JSON shows it."""
_CREDENTIAL = re.compile(
    r"\bchoreo_[0-9a-f]{12}_[\w-]{20,}|\beyJ[\w-]{8,1024}\.[\w-]*\.[\w-]*|(?i:(?<=bearer )\s*[\w.~+/-]{16,}=*)"
    r"|(?i:(?<=authorization: basic )\s*[\w+/-]+=*)"
)
"""API keys of choreo, signed tokens (a JWT begins with `{"`), and anything sent as a credential in a header."""
_URL_PART = re.compile(r"[/?#@:\[\]&=,;]+")
_ENVIRONMENT = "CHOREO_"


def is_secret(name: str) -> bool:
    """Return whether the value of a setting of this name is secret as a whole."""
    return bool(_SECRET_NAME.search(name))


class Redactor:
    """Removes learned secrets, and the user and password in any URL, from texts."""

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        """Learn the secrets among these settings."""
        self._known: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self.learn(settings or {})

    def learn(self, settings: Mapping[str, object]) -> None:
        """Add the secrets among these settings, each by its name or by the shape of its value."""
        found = {
            form
            for name, value in settings.items()
            for secret in _secrets_in(name, str(value or ""))
            for form in _forms(secret)
            if len(form) >= LENGTH_MIN
        }
        if found - self._known:
            self._known |= found
            # The longest first, so that no rest of one stays behind another.
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._known, key=len, reverse=True))))

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        text = _CREDENTIAL.sub(MASK, text)
        text = _USER_INFO.sub(f"{MASK}@", text)
        return _QUOTED.sub(_without_value, _ASSIGNED.sub(_without_value, text))


redact: Redactor = Redactor()
"""This process's redactor: each reader of settings lets it learn their secrets."""


def redact_part(text: str) -> str:
    """Return at most the first `PART_MAX` characters without secrets: of a longer text the rest is counted.

    A client's error may hold all the data that it could not send, and the process waits while it is searched.
    """
    if len(text) <= PART_MAX:
        return redact(text)
    # A secret that the cut splits would not be found: the second half of the searched part is dropped.
    return f"{redact(text[: 2 * PART_MAX])[:PART_MAX]}… and {len(text) - PART_MAX} characters more"


def learn_environment(environment: Mapping[str, str]) -> None:
    """Learn the secrets in the variables of choreo."""
    redact.learn({name: value for name, value in environment.items() if name.startswith(_ENVIRONMENT)})


@lru_cache(64)
def redactor_of(settings: frozenset[tuple[str, str]]) -> Redactor:
    """Return the redactor of these settings; made once."""
    return Redactor(dict(settings))


def _without_value(found: re.Match[str]) -> str:
    """Return a match with a mask in place of its last group."""
    return found.group()[: found.start(found.re.groups) - found.start()] + MASK


def _secrets_in(name: str, value: str) -> Iterator[str]:
    """Yield the secrets in a setting's value: all of it by its name, or user and password of an address."""
    if is_secret(name):
        yield value
        yield from (line.strip() for line in value.splitlines())
        yield value.partition(":")[2]  # user:password
    for address in re.split(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)", value):
        scheme, found, rest = address.partition("://")
        user_info, at, _ = (rest if found else scheme).rpartition("@")
        if at:
            user, _, password = user_info.partition(":")
            secret = password or user
            yield secret
            yield user_info
            # A library that parses the address differently shows a piece.
            yield from _URL_PART.split(secret)
            yield from _URL_PART.split(unquote(secret))
        yield from _ASSIGNED.findall(address)


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as libraries write it: percent-encoded or not, escaped, in base64."""
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        yield plain
        yield quote(plain, safe="")
        yield quote(plain)
        yield quote_plus(plain)
        yield repr(plain)[1:-1]
        yield json.dumps(plain)[1:-1]
        yield plain.encode("unicode_escape").decode()
        yield base64.b64encode(plain.encode("utf-8", "surrogatepass")).decode()
