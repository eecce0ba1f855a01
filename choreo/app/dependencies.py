"""The dependency reports of one process, shared by its hosts and adapters, with a bounded number of log lines.

Knows names, moments and texts; knows neither the reporters nor the readers.
"""

from __future__ import annotations

import logging
from threading import Lock

import msgspec

from choreo.core.backoff import Backoff
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Unavailable

_log = logging.getLogger(__name__)

REMINDER_FIRST_S, REMINDER_MAX_S = 30, 900
"""The first line at once, the second after 30 s, then at doubled intervals: about 100 lines a day for each name."""
TEXT_MAX = 1_000
"""Characters of a cause: some errors quote a whole record."""


class _Entry:
    def __init__(self, report: Unavailable) -> None:
        self.report = report
        self._reminders = Backoff(REMINDER_FIRST_S, REMINDER_MAX_S)
        self.remind_ms = 0.0
        self.logged(report.since_ms)

    def logged(self, now_ms: int) -> None:
        """Note that a line was logged now; the next one comes later by twice as much."""
        self.logged_ms = now_ms
        self.remind_ms = self._reminders.next_s() * 1_000


class DependencyReports:
    """`choreo.ports.dependencies.Dependencies` in memory. Logs the first report, reminders, and the return."""

    def __init__(self, clock: Clock) -> None:
        """Start without reports; `clock` gives the moments of first reports and the intervals of log lines."""
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[str, _Entry] = {}
        self._is_ending = False

    def report(self, name: str, cause: str, remedy: str) -> None:
        """Keep the report; log it if it is new or was last logged long ago."""
        now_ms = self._clock.now_ms()
        cause = cause.rstrip(". ")[:TEXT_MAX]
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Entry(Unavailable(name, now_ms, cause, remedy))
            else:
                entry.report = msgspec.structs.replace(entry.report, cause=cause, remedy=remedy)
                if abs(now_ms - entry.logged_ms) < entry.remind_ms:
                    return
                entry.logged(now_ms)
            age_s = max(0, now_ms - entry.report.since_ms) // 1_000
        duration = f" for {age_s} s" if age_s else ""
        _log.warning("%s is unavailable%s: %s. %s", name, duration, cause, remedy)

    def end(self) -> None:
        """Ignore later clears: the process ends, and a part that stops has not found its dependency usable."""
        self._is_ending = True

    def clear(self, name: str) -> None:
        """Drop the report of this name; log the return, if it was reported."""
        if name not in self._entries or self._is_ending:
            return
        with self._lock:
            entry = self._entries.pop(name, None)
        if entry is not None:
            age_s = max(0, self._clock.now_ms() - entry.report.since_ms) / 1_000
            _log.info("%s is available again after %.1f s", name, age_s)

    def all(self) -> list[Unavailable]:
        """Return the present reports, the longest first."""
        with self._lock:
            reports = [entry.report for entry in self._entries.values()]
        return sorted(reports, key=lambda report: (report.since_ms, report.name))
