"""The events of one run with their times, for people: kept in memory, written as one page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path


class RunLog:
    """Lines with the seconds since the run began."""

    def __init__(self, echo: Path) -> None:
        """Write every line also to `echo` at once, for spectators."""
        self.began_s = time.monotonic()
        self.lines: list[str] = []
        self.sections: list[str] = []
        self._echo = echo

    @property
    def seconds(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began_s

    def note(self, text: str) -> None:
        """Write one more line."""
        line = f"{self.seconds:7.1f} s  {text}"
        self.lines.append(line)
        with self._echo.open("a") as stream:
            stream.write(line + "\n")

    def table(self, title: str, head: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
        """Add a table to the page."""
        lines = [head, ["---"] * len(head), *rows]
        self.sections.append(f"## {title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))

    def say(self, title: str, text: str) -> None:
        """Add a section of text to the page."""
        self.sections.append(f"## {title}\n\n{text}")

    def counted(self, title: str, what: str, counts: Mapping[str, int]) -> None:
        """Add a table of numbers."""
        self.table(title, (what, "number"), sorted(counts.items()))

    def page(self, title: str, introduction: str) -> str:
        """Return the whole page as Markdown."""
        happened = "## Events\n\n```text\n" + "\n".join(self.lines) + "\n```"
        return "\n\n".join([f"# {title}", introduction, *self.sections, happened]) + "\n"
