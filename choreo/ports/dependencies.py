"""Reports of dependencies that cannot be used now: name, start, cause and remedy.

An adapter or host that meets a condition which does not pass by itself reports it and clears it when it has passed.
`/readyz` answers 503 while anything is reported; `/metrics` shows it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from choreo.core.errors import ChoreoError


class Unavailable(msgspec.Struct, frozen=True):
    """One dependency that cannot be used, in epoch milliseconds since its first report."""

    name: str
    since_ms: int
    cause: str
    remedy: str


class Dependencies(Protocol):
    """The reports of one process. Every method may be called from any thread, and never raises."""

    def report(self, name: str, cause: str, remedy: str) -> None:
        """Report that `name` cannot be used; a later report replaces cause and remedy, and keeps the first moment.

        `name` is a metric label: few and constant ("redis", "step payment of order"), never a key or an offset.
        """
        ...

    def clear(self, name: str) -> None:
        """Report that `name` can be used; cheap where it was never reported."""
        ...

    def all(self) -> list[Unavailable]:
        """Return the present reports, the longest first."""
        ...


class NoReports:
    """Dependencies of a part that runs alone: keeps nothing."""

    def report(self, name: str, cause: str, remedy: str) -> None:
        """Keep nothing."""

    def clear(self, name: str) -> None:
        """Keep nothing."""

    def all(self) -> list[Unavailable]:
        """Return nothing."""
        return []


def report_error(dependencies: Dependencies, name: str, error: ChoreoError) -> None:
    """Report an error as the cause, with its place and its remedy."""
    place = f"{error.where}: " if error.where else ""
    dependencies.report(name, f"{place}{error.what}", error.remedy)
