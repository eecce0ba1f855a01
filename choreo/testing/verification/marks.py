"""The facts about runs that hosts read: which run is stopped, paused or ended. Folded by the product's own `Runs`.

One fold for all hosts, up to the end of the log; how far a host has read is chosen where it decides (host.py).
"""

from __future__ import annotations

from typing import NamedTuple

from choreo.app.steps.handlers import RUN_FACTS
from choreo.app.steps.runs import Runs, RunStatus
from choreo.core.events import Envelope, Record
from choreo.testing.verification.canonical import NOW_MS
from choreo.testing.verification.pool import Pool

STOPPED_AT = 1
"""The offset of the fact that stopped a run; a trigger before it has 0, one after it 2."""


class Mark(NamedTuple):
    """The facts that were read about one run."""

    stopped: bool = False
    ended: bool = False
    terminated: bool = False
    paused: bool = False
    pause_n: int = 0

    def status(self) -> RunStatus:
        """Return it in the form of the product's rules."""
        status = RunStatus(loaded=True, stopped=self.stopped, paused=self.paused, pause_n=self.pause_n)
        status.ended, status.terminated = self.ended, self.terminated
        if self.stopped:
            status.stopped_at = STOPPED_AT
        return status


NO_MARK = Mark()
_Marks = tuple[tuple[str, Mark], ...]


class Marks:
    """The marks of all runs, by number."""

    def __init__(self, records: Pool[Envelope]) -> None:
        """Start with no run; `records` has the events by number."""
        self._records = records
        self._pool: Pool[_Marks] = Pool()
        self._folded: dict[tuple[int, int], int] = {}
        self.nothing: int = self._pool.number(())

    def after(self, marks: int, record: int) -> int:
        """Return the marks after a record."""
        known = self._folded.get((marks, record))
        if known is None:
            known = self._folded[marks, record] = self._fold(marks, self._records[record])
        return known

    def of(self, marks: int, run: str) -> Mark:
        """Return the mark of a run."""
        return next((mark for name, mark in self._pool[marks] if name == run), NO_MARK)

    def _fold(self, marks: int, event: Envelope) -> int:
        if event.type not in RUN_FACTS or not event.run:
            return marks
        runs = Runs()
        status = runs.of(event.run)
        before = self.of(marks, event.run).status()
        for name in RunStatus.__struct_fields__:
            setattr(status, name, getattr(before, name))
        runs.read(Record("", 0, STOPPED_AT, NOW_MS, event))
        mark = Mark(status.stopped, status.ended, status.terminated, status.paused, status.pause_n)
        others = [each for each in self._pool[marks] if each[0] != event.run]
        return self._pool.number(tuple(sorted([*others, (event.run, mark)])))
