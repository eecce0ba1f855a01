"""The timeline of a key in a test or a simulation: its records, calls and faults, by virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from choreo.core.events import Record
from choreo.testing.simulation.clock import EPOCH_MS
from choreo.testing.simulation.cluster import Happening

_DAY_S = 86_400


class Line(NamedTuple):
    """One line of a timeline."""

    at_ms: int
    place: str
    text: str


def timeline(records: Iterable[Record], happenings: Iterable[Happening], keys: Sequence[str] = ()) -> list[Line]:
    """Return the lines about these keys, all with none, with those about no key; by time."""
    lines = [
        Line(happening.at_ms, happening.process, happening.text)
        for happening in happenings
        if _fits(happening.key, keys)
    ]
    lines += [
        Line(record.stamp_ms - EPOCH_MS, _place(record), _described(record))
        for record in records
        if not keys or record.event.key in keys
    ]
    return sorted(lines, key=lambda line: line.at_ms)


def shown(lines: Iterable[Line]) -> str:
    """Return the lines as text."""
    return "\n".join(f"  {moment(line.at_ms)}  {line.place:<24}  {line.text}" for line in lines)


def moment(at_ms: int) -> str:
    """Return a time since the beginning: "1d 02:03:04.005"."""
    seconds, thousandths = divmod(at_ms, 1_000)
    days, rest = divmod(seconds, _DAY_S)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{f'{days}d' if days else '':>4} {hour:02}:{minute:02}:{second:02}.{thousandths:03}"


def _fits(key: str, keys: Sequence[str]) -> bool:
    return not keys or not key or key in keys


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}@{record.offset}"


def _described(record: Record) -> str:
    event = record.event
    parts = [event.type]
    if event.step:
        parts.append(f"of {event.step}")
    if event.attempt:
        parts.append(f"attempt {event.attempt}")
    parts.append(f"for {event.key}")
    if event.reason:
        parts.append(f"({event.reason})")
    return " ".join(parts)
