"""How long steps, waits and undos take, from the last records of the log: the measure by which a run is slow.

A sample: a duration that is longer than the records looked at reach back is not among them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from choreo.app.tracking.views import undo_of
from choreo.core import facts
from choreo.core.definition import is_timer
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.log import Log

RECORDS_MAX = 16_000
"""Records looked at for a flow, over all partitions: half a second of reading at most."""
KEPT_MS = 60_000
"""How long a measure is used: reading it anew costs more than a list does."""
SAMPLES_MIN = 20
"""Fewer durations than that say nothing about the longest ones."""


class Usual(msgspec.Struct, frozen=True):
    """The usual durations of a step, wait or undo."""

    count: int
    median_ms: int
    p99_ms: int


def usual(durations: Sequence[int]) -> Usual | None:
    """Return median and 99th percentile; None of too few durations."""
    if len(durations) < SAMPLES_MIN:
        return None
    ordered = sorted(durations)
    return Usual(len(ordered), ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])


def durations(table: FlowTable, records: Iterable[Record]) -> dict[str, list[int]]:
    """Return the durations of a partition's records by step, wait or undo, in ms."""
    found: dict[str, list[int]] = defaultdict(list)
    stamps: dict[str, int] = {}
    requests: dict[str, int] = {}
    opened: dict[tuple[str, str], int] = {}
    openers, closers = _waits(table)
    for record in records:
        event, stamp_ms = record.event, record.stamp_ms
        stamps[event.id] = stamp_ms
        if event.type == facts.COMPENSATION_REQUESTED:
            requests[event.entry] = stamp_ms
        elif event.entry and not event.type.startswith(facts.PREFIX):
            if (begun_ms := requests.pop(event.entry, None)) is not None:
                found[undo_of(event.step)].append(max(0, stamp_ms - begun_ms))
        elif event.step and not event.type.startswith(facts.PREFIX) and event.causation in stamps:
            found[event.step].append(max(0, stamp_ms - stamps[event.causation]))
        for name in closers.get(event.type, ()):
            if (begun_ms := opened.pop((event.key, name), None)) is not None:
                found[name].append(max(0, stamp_ms - begun_ms))
        for name in openers.get(event.type, ()):
            opened.setdefault((event.key, name), stamp_ms)
    return found


def _waits(table: FlowTable) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    """Return the names of waits by the types that open them, and by those that satisfy them."""
    openers: dict[str, list[str]] = defaultdict(list)
    closers: dict[str, list[str]] = defaultdict(list)
    for wait in table.flow.waits:
        if is_timer(wait.name):
            continue
        openers[wait.on].append(wait.name)
        for type_ in wait.answers:
            closers[type_].append(wait.name)
    return openers, closers


class Durations:
    """The usual durations of every flow, kept for a minute in this process."""

    def __init__(self, log: Log, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._log = log
        self._clock = clock
        self._known: dict[str, tuple[int, dict[str, Usual]]] = {}

    async def of(self, table: FlowTable) -> dict[str, Usual]:
        """Return the usual durations of a flow by step, wait or undo; those with too few samples are absent."""
        flow, now_ms = table.flow.name, self._clock.now_ms()
        known = self._known.get(flow)
        if known is not None and abs(now_ms - known[0]) < KEPT_MS:
            return known[1]
        numbers = range(await self._log.partitions(flow))
        each = max(1, RECORDS_MAX // len(numbers))
        tails = await asyncio.gather(*(self._tail(flow, number, each) for number in numbers))
        merged: dict[str, list[int]] = defaultdict(list)
        for tail in tails:
            for name, found in durations(table, tail).items():
                merged[name] += found
        measured = {name: one for name, found in merged.items() if (one := usual(found)) is not None}
        self._known[flow] = now_ms, measured
        return measured

    async def _tail(self, flow: str, partition: int, count: int) -> list[Record]:
        end = await self._log.stable_end(flow, partition)
        return await self._log.read(flow, partition, max(0, end - count), count)
