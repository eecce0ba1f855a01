"""A finding of a check: one sentence, with its code and its remedy."""

from __future__ import annotations

import re

import msgspec

from choreo.core.checks.codes import CODES, Level

__all__ = ["Finding", "Level"]

_BETWEEN = re.compile(r", | and ")
_KINDS = ("flow ", "steps ", "step ", "event ", "events ", "attribute ", "carries ", "undo of step ", "service ")


class Finding(msgspec.Struct, frozen=True):
    """A fault of a declaration. A flow with an error does not start; a warning does not prevent the start."""

    code: str
    where: str
    what: str
    remedy: str

    @property
    def level(self) -> Level:
        """Return the severity of its code."""
        return CODES[self.code].level

    @property
    def sentence(self) -> str:
        """Return the finding as one line."""
        return f"{self.where}: {self.what}. {self.remedy}"


def names_in(where: str) -> tuple[str, ...]:
    """Return the names in the place of a finding: flow, steps, waits and events, the outermost first."""
    found = []
    for part in _BETWEEN.split(where):
        kind = next((each for each in _KINDS if part.startswith(each)), "")
        found.append(part.removeprefix(kind))
    return tuple(found)
