"""A finding as `choreo check` answers with it: its code, its place in the declaration and in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from choreo.core.checks.codes import CODES, Level
from choreo.core.checks.finding import Finding, names_in
from choreo.core.errors import ChoreoError

Part: TypeAlias = Literal["flow", "topics", "schemas", "versions", "suppressions"]

UNNAMED: dict[Part, str] = {"flow": "C010", "topics": "C607", "schemas": "C704", "versions": "C804"}
"""The code of an error that names none, by the part in which it was raised."""


class Found(msgspec.Struct, frozen=True):
    """One finding: an error or a warning."""

    code: str
    level: Level
    part: Part
    where: str
    what: str
    remedy: str
    file: str = ""
    """File of the declaration, relative to the current folder; empty if it is not known."""
    line: int = 0
    """Line in that file, from 1; 0 if it is not known."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its place: flow, step, wait, event."""
        return names_in(self.where)

    @property
    def place(self) -> str:
        """Return `file:line` of its declaration, as far as it is known."""
        return f"{self.file}:{self.line}" if self.line else self.file


def of_finding(finding: Finding) -> Found:
    """Return a finding of a check of flows."""
    return Found(finding.code, finding.level, "flow", finding.where, finding.what, finding.remedy)


def of_error(part: Part, error: ChoreoError) -> Found:
    """Return the finding that an error stands for."""
    code = error.code or UNNAMED[part]
    return Found(code, CODES[code].level, part, error.where, error.what, error.remedy)


def relative(path: str | Path) -> str:
    """Return a path relative to the current folder; as it is where it lies elsewhere."""
    try:
        return Path(path).resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)
