"""Moments of timers in fields of events: `at="renews_at"`. Pure; only the tracker reads them.

A timer keeps such a moment through a pause: a date of the calendar does not stand still. One in the past is due at
once. One that cannot be read, or lies outside of the calendar, sets no timer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from choreo.core.events import EARLIEST_MS, LATEST_MS, Record
from choreo.core.fields import UnreadableFieldError, comparable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Moments(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The moments in one event, in epoch milliseconds, each with its field."""

    found: tuple[tuple[str, int], ...] = ()
    unreadable: str = ""
    """Why there are none: the event cannot be decoded, or a field has no moment."""

    def of(self, field: str) -> int | None:
        """Return the moment in this field; None if it has none."""
        return next((moment_ms for name, moment_ms in self.found if name == field), None)


def moments_of(record: Record, fields: Iterable[str]) -> Moments:
    """Return the moments in these fields of a decoded record, or why they cannot be read."""
    event = record.event.type
    if record.fields is None or record.unreadable:
        return Moments(unreadable=record.unreadable or f"{event} was not decoded")
    found: list[tuple[str, int]] = []
    for name in fields:
        try:
            moment = comparable("time", record.fields.get(name))
        except UnreadableFieldError as error:
            return Moments(unreadable=f"{event}.{name}: {error}")
        moment_ms = -((_EPOCH - moment) // _MILLISECOND)  # rounded up: never early
        if not EARLIEST_MS <= moment_ms <= LATEST_MS:
            return Moments(unreadable=f"{event}.{name}: {moment} lies outside of the years 1 to 9999 in UTC")
        found.append((name, moment_ms))
    return Moments(tuple(found))
