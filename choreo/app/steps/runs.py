"""Status of runs, as far as a service has read: compensating, ended, paused. It stops or holds their forward steps.

The inbox remembers it beyond this process; here it is kept in memory, bounded, with its offset in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from choreo.core import facts
from choreo.core.events import Record
from choreo.ports.inbox import RunMark

# Some 200 bytes each: 10 MB. Far more than the runs of the jobs that a host can queue.
KNOWN_MAX = 50_000

_NEVER = 1 << 62


class RunStatus(msgspec.Struct):
    """The status of one run, as far as this service has read."""

    loaded: bool = False
    """Whether the inbox was asked about it."""
    stopped: bool = False
    """Compensating or ended: no forward step starts any more."""
    stopped_at: int = _NEVER
    """Lowest offset of a fact that stopped it: a duplicate stands later. -1 if the inbox has no offset."""
    paused: bool = False
    pause_n: int = 0
    resumed_ms: int = 0
    """Stamp of the last resume that was read: deadlines stood still until then."""
    ended: bool = False
    terminated: bool = False
    """Ended by an operator as it is, as far as this process has read: nothing is undone any more."""


class Runs:
    """The status of each run that the jobs at hand belong to."""

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        """Keep at most `known_max` runs in memory, the last ones touched."""
        self._known: dict[str, RunStatus] = {}
        self._known_max = known_max
        self._unsaved: dict[str, RunMark] = {}

    def of(self, run: str) -> RunStatus:
        """Return the run's status, which changes as facts are read."""
        status = self._known.get(run)
        if status is None:
            while len(self._known) >= self._known_max:
                del self._known[next(iter(self._known))]
            status = self._known[run] = RunStatus()
        return status

    def unknown(self, runs: Iterable[str]) -> list[str]:
        """Return those of these runs whose mark was not read from the inbox."""
        known = self._known
        return [run for run in set(runs) if run not in known or not known[run].loaded]

    def load(self, asked: Iterable[str], marks: Mapping[str, RunMark]) -> None:
        """Take over the inbox's marks; a run without a mark is new."""
        for run in asked:
            status = self.of(run)
            status.loaded = True
            mark = marks.get(run)
            if mark is None:
                continue
            status.ended = status.ended or mark.ended
            if mark.compensating or mark.ended:
                # A mark may have no offset: the fact itself, where it was read, has one.
                if mark.stopped_at >= 0 or not status.stopped:
                    status.stopped_at = min(status.stopped_at, mark.stopped_at)
                status.stopped = True
            if mark.pause_n > status.pause_n:
                status.paused, status.pause_n = mark.paused, mark.pause_n

    def read(self, record: Record) -> None:
        """Take over a fact about a run; `unsaved` has it until the inbox knows it.

        The tracker publishes StepRetryDue for a run that is not paused, as far as it has read: it carries the number
        up to which no pause holds.
        """
        event = record.event
        if not event.run:
            return
        status, type_ = self.of(event.run), event.type
        if type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED, facts.STEP_RETRY_DUE):
            if event.n <= status.pause_n:
                return
            status.paused, status.pause_n = type_ == facts.FLOW_PAUSED, event.n
            if not status.paused:
                status.resumed_ms = record.stamp_ms
        else:
            status.terminated = status.terminated or (type_ == facts.FLOW_TERMINATED and not status.ended)
            status.stopped = True
            status.ended = status.ended or type_ in facts.ENDS
            status.stopped_at = min(status.stopped_at, record.offset)
        at = status.stopped_at if status.stopped else -1
        self._unsaved[event.run] = RunMark(status.stopped, status.ended, status.paused, status.pause_n, at)

    def unsaved(self) -> dict[str, RunMark]:
        """Return the marks that the inbox must have before the offsets of their facts are committed."""
        return dict(self._unsaved)

    def saved(self, marks: Mapping[str, RunMark]) -> None:
        """Note that the inbox has these marks."""
        for run, mark in marks.items():
            if self._unsaved.get(run) == mark:
                del self._unsaved[run]

    def forget(self) -> None:
        """Forget all: of a partition that comes back another consumer may have read more. The inbox is asked again."""
        self._known.clear()
