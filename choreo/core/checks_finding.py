"""What a check of a flow says: one finding, one sentence, with its remedy."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """Something wrong with a declaration. An error keeps the flow from starting; a warning does not."""

    level: Level
    where: str
    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        """The finding as one line."""
        return f"{self.where}: {self.what}. {self.remedy}"


def error(where: str, what: str, remedy: str) -> Finding:
    """What keeps the flow from starting."""
    return Finding("error", where, what, remedy)


def warning(where: str, what: str, remedy: str) -> Finding:
    """What its author should know before it runs."""
    return Finding("warning", where, what, remedy)
