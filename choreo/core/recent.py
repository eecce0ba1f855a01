"""A bounded memory of events, eight bytes for each, so that a late duplicate is recognised.

It is needed only for events whose effect on the state does not show that they were read: those from producers that do
not name a cause. The newest stay; a run that has read more of them since takes a duplicate for a new event.
"""

from __future__ import annotations

from hashlib import blake2b

KEPT_MAX = 1_000
"""Events remembered: at most 8 kB of state, reached by a run to which foreign producers wrote a thousand times."""

_SIZE = 8  # bytes: among a thousand events two share a token by chance once in 10^13 runs


def token(*parts: str) -> bytes:
    """Return the eight bytes that stand for these parts together."""
    text = "\x1f".join(parts)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_SIZE).digest()


def knows(memory: bytes, event: bytes) -> bool:
    """Return whether the memory holds this token."""
    at = memory.find(event)
    while at >= 0 and at % _SIZE:
        at = memory.find(event, at + 1)
    return at >= 0


def with_new(memory: bytes, event: bytes) -> bytes:
    """Return the memory with this token as its newest."""
    return (memory + event)[-KEPT_MAX * _SIZE :]
