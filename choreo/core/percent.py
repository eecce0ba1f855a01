"""Percent-encoding of a text's UTF-8 bytes (RFC 3986, 2.1). Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

UNRESERVED: AbstractSet[int] = frozenset(b"-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Bytes that need no encoding in any part of a URL."""


def encoded(text: str, plain: AbstractSet[int] = UNRESERVED) -> str:
    """Return the text with every byte encoded that is not `plain`; raises UnicodeEncodeError on half a surrogate."""
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())
