"""What a service has read about runs: turned, ended, paused. It stops or holds their forward steps.

The inbox remembers it beyond this process; here it is kept, bounded, together with where in the log it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from choreo.core import facts
from choreo.core.events import Record
from choreo.ports.inbox import RunMark

# Some 200 bytes each: 10 MB. Far more than the runs that a host's jobs in hand can belong to.
KNOWN_MAX = 50_000

_NEVER = 1 << 62


class Standing(msgspec.Struct):
    """How a run stands, as far as this service has read."""

    loaded: bool = False
    """Whether the inbox was asked about it."""
    stopped: bool = False
    """Turned or ended: no forward step starts any more."""
    stopped_at: int = _NEVER
    """Lowest offset of a fact that stopped it: a twin stands later. -1 if an inbox knows of it, and not where."""
    paused: bool = False
    pause_n: int = 0
    resumed_ms: int = 0
    """Stamp of the last resume that was read: deadlines stood still until then."""
    ended: bool = False
    terminated: bool = False
    """Ended by an operator as it is, as far as this process has read: nothing is undone any more."""


class Runs:
    """The standings of the runs at hand."""

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        """Keep at most `known_max` runs in memory, the last ones touched."""
        self._known: dict[str, Standing] = {}
        self._known_max = known_max
        self._unsaved: dict[str, RunMark] = {}

    def of(self, run: str) -> Standing:
        """How the run stands; changes with what is read."""
        standing = self._known.get(run)
        if standing is None:
            while len(self._known) >= self._known_max:
                del self._known[next(iter(self._known))]
            standing = self._known[run] = Standing()
        return standing

    def unknown(self, runs: Iterable[str]) -> list[str]:
        """Those of these runs that the inbox must be asked about."""
        known = self._known
        return [run for run in set(runs) if run not in known or not known[run].loaded]

    def load(self, asked: Iterable[str], marks: Mapping[str, RunMark]) -> None:
        """Take the inbox's answer; a run without a mark is as new."""
        for run in asked:
            standing = self.of(run)
            standing.loaded = True
            mark = marks.get(run)
            if mark is None:
                continue
            standing.ended = standing.ended or mark.ended
            if mark.turned or mark.ended:
                # Marks that were written before places were kept: what was read of it in the log tells more.
                if mark.stopped_at >= 0 or not standing.stopped:
                    standing.stopped_at = min(standing.stopped_at, mark.stopped_at)
                standing.stopped = True
            if mark.pause_n > standing.pause_n:
                standing.paused, standing.pause_n = mark.paused, mark.pause_n

    def read(self, record: Record) -> None:
        """A fact about a run was read; what the inbox does not know yet is kept for `unsaved`.

        The tracker says StepRetryDue of a run that is not paused, as far as it has read: it carries the number up to
        which no pause holds.
        """
        event = record.event
        if not event.run:
            return
        standing, type_ = self.of(event.run), event.type
        if type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED, facts.STEP_RETRY_DUE):
            if event.n <= standing.pause_n:
                return
            standing.paused, standing.pause_n = type_ == facts.FLOW_PAUSED, event.n
            if not standing.paused:
                standing.resumed_ms = record.stamp_ms
        else:
            standing.terminated = standing.terminated or (type_ == facts.FLOW_TERMINATED and not standing.ended)
            standing.stopped = True
            standing.ended = standing.ended or type_ in facts.ENDS
            standing.stopped_at = min(standing.stopped_at, record.offset)
        at = standing.stopped_at if standing.stopped else -1
        self._unsaved[event.run] = RunMark(standing.stopped, standing.ended, standing.paused, standing.pause_n, at)

    def unsaved(self) -> dict[str, RunMark]:
        """What the inbox must know before the positions it was read at are committed."""
        return dict(self._unsaved)

    def saved(self, marks: Mapping[str, RunMark]) -> None:
        """The inbox knows these now."""
        for run, mark in marks.items():
            if self._unsaved.get(run) == mark:
                del self._unsaved[run]

    def forget(self) -> None:
        """Another member may have read on in a partition that comes back: ask the inbox anew."""
        self._known.clear()
