"""The versions of a flow that a step serves: `"2-"`, `"1-2"`, `"1"`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from choreo.core.errors import DeclarationError

_RANGE = re.compile(r"(?P<first>[1-9][0-9]{0,8})(?P<to>-(?P<last>[1-9][0-9]{0,8})?)?\Z")
_REMEDY = 'Write "2-" for version 2 and later ones, "1-2" for both, "1" for one.'


class VersionRange(NamedTuple):
    """Versions from `first` to `last`, both included; `last` 0: without an end."""

    first: int = 1
    last: int = 0

    def has(self, version: int) -> bool:
        """Return whether the range has this version."""
        return self.first <= version and (not self.last or version <= self.last)

    def __str__(self) -> str:
        """Return it as it is declared."""
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last or ''}"


EVERY = VersionRange()


def served(value: object, where: str) -> VersionRange:
    """Return the range that a step declares; raises DeclarationError on one that cannot be read, or is empty."""
    if value is None:
        return EVERY
    found = _RANGE.match(value) if isinstance(value, str) else None
    if found is None:
        raise DeclarationError(f"versions={value!r:.60} is no range of versions", where=where, remedy=_REMEDY)
    first = int(found["first"])
    last = int(found["last"]) if found["last"] else 0 if found["to"] else first
    if last and last < first:
        raise DeclarationError(f"versions={value!r} ends before it begins", where=where, remedy=_REMEDY)
    return VersionRange(first, last)
