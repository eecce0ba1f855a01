"""The log's time as one process knows it, from the brokers' record stamps; and a clock that stays within it.

Deadlines are judged by the log's time. A machine with a wrong clock would otherwise skip steps or be late without a
report. The bounds follow from the order of events: a record was appended before it was read, and after the moment at
which it was sent, or at which its partition was seen to end before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from choreo.ports.clock import Clock

SKEW_MAX_MS = 5_000
"""A skew from here on is reported: ten times the skew of two good clocks with a loaded broker and a slow network."""


def _elapsed_ms() -> int:
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


class SeenEnd(NamedTuple):
    """The end of a partition, and the moment of the request for it, on the clock that never jumps."""

    topic: str
    partition: int
    offset: int
    asked_ms: int


class LogTime:
    """Bounds of the log's time, each as its distance from a clock that never jumps. May be used in several threads."""

    def __init__(self, elapsed_ms: Callable[[], int] = _elapsed_ms) -> None:
        """Begin without bounds."""
        self.elapsed_ms = elapsed_ms
        """The clock that never jumps."""
        self._ends: dict[tuple[str, int], SeenEnd] = {}
        self._low: int | None = None
        self._high: int | None = None

    def read(self, stamp_ms: int, unseen_ms: int | None = None) -> None:
        """Take the stamp of a record that was read; at `unseen_ms` of `elapsed_ms` it was not in the log yet."""
        low = stamp_ms - self.elapsed_ms()
        if unseen_ms is not None:
            self._between(low, stamp_ms - unseen_ms)
        elif self._low is None or low > self._low:
            self._low = low
            if self._high is not None and self._high < low:
                self._high = low  # a broker's clock was set forward, or this machine slept

    def appended(self, stamp_ms: int, sent_ms: int) -> None:
        """Take the stamp of a record that was just acknowledged; it was sent at `sent_ms` of `elapsed_ms`."""
        self._between(stamp_ms - self.elapsed_ms(), stamp_ms - sent_ms)

    def ended(self, end: SeenEnd) -> None:
        """Take the end of a partition: records from there on were appended after the request for it."""
        self._ends[end.topic, end.partition] = end

    def end_of(self, topic: str, partition: int) -> SeenEnd | None:
        """Return the end of the partition as last seen, until a record from there on is read."""
        return self._ends.get((topic, partition))

    def passed(self, end: SeenEnd, stamp_ms: int | None) -> None:
        """Take the stamp of a record from this end on; None where it does not carry the log's time."""
        self._ends.pop((end.topic, end.partition), None)
        if stamp_ms is not None:
            self.read(stamp_ms, end.asked_ms)

    def bounds(self) -> tuple[int | None, int | None]:
        """Return the earliest and the latest that the log's time can be now, in epoch ms; None where it is unknown."""
        elapsed_ms = self.elapsed_ms()
        low, high = self._low, self._high
        return (None if low is None else low + elapsed_ms), (None if high is None else high + elapsed_ms)

    def skew_ms(self, own_ms: int) -> int:
        """Return by how much this moment of the own clock is surely ahead of the log's time; negative: behind it."""
        low, high = self.bounds()
        if high is not None and own_ms > high:
            return own_ms - high
        return own_ms - low if low is not None and own_ms < low else 0

    def _between(self, low: int, high: int) -> None:
        """Set the bounds.

        The newest observation counts where it contradicts older ones: a broker's clock may be set.
        """
        known_low, known_high = self._low, self._high
        self._low = low if known_low is None or not low <= known_low <= high else known_low
        self._high = high if known_high is None or not low <= known_high <= high else known_high


class LogClock:
    """A clock held within the bounds of the log's time, which the machine's own clock may have left."""

    def __init__(self, own: Clock, log_time: LogTime, *, is_patient: bool = False) -> None:
        """Hold `own` within the bounds of `log_time`.

        `is_patient`: while only the lower bound is known, return that bound, so that no deadline passes too early.
        The bound lies in the past where nothing was written for a while, so a caller that decides that a deadline has
        passed is not patient.
        """
        self._own = own
        self._log_time = log_time
        self._is_patient = is_patient

    def now_ms(self) -> int:
        """Return the present moment of the log."""
        own_ms = self._own.now_ms()
        low, high = self._log_time.bounds()
        if high is None and self._is_patient:
            high = low
        if high is not None and own_ms > high:
            return high
        return low if low is not None and own_ms < low else own_ms

    def elapsed_ms(self) -> int:
        """Return the time since the machine's start."""
        return self._own.elapsed_ms()

    async def sleep(self, duration_s: float) -> None:
        """Wait; other tasks run meanwhile."""
        await self._own.sleep(duration_s)
