"""Limits of events that choreo publishes: the business key, and the size. Pure.

Keys from REST, CLI and Python are checked more strictly than the log does, which takes any producer's keys. An event
beyond the size is refused with its step before anything is published.
"""

from __future__ import annotations

import re

from choreo.core.errors import DecodeError, SchemaError
from choreo.core.events import Envelope

KEY_LENGTH_MAX = 512
"""In characters: far above any business key, far below the limit of a URL or a header line (8 KiB)."""

KEY_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"
"""No control characters, because derived ids separate their parts by one."""

DOT_NAMES = (".", "..")
"""Every client and proxy takes these out of a path, so that such an instance could not be asked for."""

_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")  # nor lone surrogates, for which UTF-8 has no bytes


def checked_key(key: str, where: str = "key") -> str:
    """Return the key itself; raises DecodeError on an invalid one."""
    if not key:
        raise DecodeError("the key is empty", where=where, remedy="Give the instance's business key, like o-1001.")
    if len(key) > KEY_LENGTH_MAX:
        raise DecodeError(
            f"the key has {len(key)} characters, {KEY_LENGTH_MAX} at most",
            where=where,
            remedy="Use an identifier, not a text.",
        )
    if key in DOT_NAMES or not _KEY.fullmatch(key):
        raise DecodeError(
            f"the key {key!r} is a dot name or has a control character or half of a surrogate pair",
            where=where,
            remedy="Use letters, digits and printing characters.",
        )
    return key


def check_size(event: Envelope, bytes_max: int, where: str) -> None:
    """Raise SchemaError where an event is larger than the log takes."""
    size = len(event.data) + len(event.key.encode(errors="replace"))
    if size > bytes_max:
        raise SchemaError(
            f"{event.type} of {size:,} bytes does not fit into the log, which takes {bytes_max:,}",
            where=where,
            remedy=(
                "Keep large content elsewhere and its address in the event; or raise max.message.bytes of the topic "
                "and CHOREO_KAFKA_MESSAGE_MAX_BYTES of every role."
            ),
        )
