"""The check of business keys from REST, CLI and Python: stricter than the log, which takes any producer's keys."""

from __future__ import annotations

import re

from choreo.core.errors import DecodeError

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
