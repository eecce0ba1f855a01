"""A finding of a check: one sentence, with its remedy."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """A fault of a declaration. A flow with an error does not start; a warning does not prevent the start."""

    level: Level
    where: str
    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Return the finding as one line."""
        return f"{self.where}: {self.what}. {self.remedy}"


def error(where: str, what: str, remedy: str) -> Finding:
    """Make a finding that prevents the flow's start."""
    return Finding("error", where, what, remedy)


def warning(where: str, what: str, remedy: str) -> Finding:
    """Make a finding that the author should know before the flow runs."""
    return Finding("warning", where, what, remedy)
