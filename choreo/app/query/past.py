"""An instance at a position of its log: the state that it had then, and the difference of two positions.

A state is a fold of the log up to a position, by the present code and flow. Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from choreo.app.query.comparison import NOTHING, Changed, compared, fields_of
from choreo.app.query.flows import Flows
from choreo.app.query.history import Attribution, Histories, HistoryRow
from choreo.app.query.queries import Instance
from choreo.app.query.status_text import moment, waiting_for
from choreo.app.query.timeline import TimelineRow, timeline
from choreo.app.tracking.fold import AttributesOf, FieldsOf, PartitionFold
from choreo.app.tracking.views import detail_of
from choreo.core.errors import DecodeError, NotFoundError
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.core.wording import counted
from choreo.ports.codec import Codec
from choreo.ports.read_model import InstanceView
from choreo.ports.recording import Recording

_POSITION = re.compile(r"(?:(?P<flow>[A-Za-z0-9._-]{1,249})/(?P<partition>[0-9]{1,9})/)?(?P<offset>[0-9]{1,18})\Z")
PAGE = 1_000
Shown = Callable[[InstanceView], InstanceView]
"""Returns a row as its reader may see it."""


class Until(NamedTuple):
    """A position: an offset, which is included, or a moment in epoch milliseconds; without both the end."""

    offset: int | None = None
    stamp_ms: int | None = None

    def has(self, record: Record) -> bool:
        """Return whether the record stands at or before the position."""
        if self.offset is not None:
            return record.offset <= self.offset
        return self.stamp_ms is None or record.stamp_ms <= self.stamp_ms

    def __str__(self) -> str:
        """Return it for people."""
        if self.offset is not None:
            return f"offset {self.offset}"
        return "the end of the log" if self.stamp_ms is None else moment(self.stamp_ms)


class Past(msgspec.Struct, frozen=True):
    """An instance at a position."""

    instance: Instance
    timeline: list[TimelineRow]
    offset: int
    """Offset of the last event of the key up to the position."""
    stamp_ms: int


class Between(msgspec.Struct, frozen=True):
    """The difference of two positions."""

    before: Past | None
    """None: the run had not started."""
    after: Past
    changed: list[Changed]
    events: list[TimelineRow]
    """The events of the run between the two."""


def until_of(text: str, flow: str, partition: int) -> Until:
    """Return the position in a text: `order/3/42`, an offset, or an RFC 3339 time. Raises DecodeError."""
    found = _POSITION.match(text)
    if found and found["flow"] is None:
        return Until(int(found["offset"]))
    if found:
        if (found["flow"], int(found["partition"])) != (flow, partition):
            raise DecodeError(
                f"{text} lies in another log or partition than the key",
                where="position",
                remedy=f"The key's events lie in {flow}/{partition}; `choreo show` prints their offsets with -o json.",
            )
        return Until(int(found["offset"]))
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise DecodeError(
            f"{text!r:.100} is no position",
            where="position",
            remedy="Give an offset (42), a position (order/3/42), or a time (2026-01-31T12:00:00Z).",
        ) from error
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return Until(stamp_ms=round(when.timestamp() * 1_000))


def _as_it_is(row: InstanceView) -> InstanceView:
    return row


class Pasts:
    """Answers about instances at positions, from a recording."""

    def __init__(
        self,
        flows: Flows,
        recording: Recording,
        codec: Codec,
        attributes_of: AttributesOf,
        fields_of: FieldsOf | None = None,
    ) -> None:
        """Keep the parts; nothing is read yet."""
        self._flows = flows
        self._recording = recording
        self._histories = Histories(flows, recording, codec)
        self._attributes_of = attributes_of
        self._fields_of = fields_of

    async def until(self, text: str, flow: str, key: str) -> Until:
        """Return the position that a person has written; without a text the end. Raises DecodeError."""
        if not text:
            return Until()
        return until_of(text, flow, partition_of(key, await self._recording.partitions(flow)))

    async def at(self, flow: str, key: str, until: Until, run: str = "") -> Past:
        """Return the run, without `run` the newest, as it was at this position. Raises NotFoundError."""
        records = [record for record in await self._records(flow, key) if until.has(record)]
        rows = await self._folded(flow, key, records)
        row = next((row for row in reversed(rows) if run in ("", row.run)), None)
        if row is None:
            raise await self._nothing(flow, key, until, run)
        return await self._past(row, [each.run for each in rows], records[-1])

    async def between(
        self, flow: str, key: str, first: Until, last: Until, run: str = "", shown: Shown = _as_it_is
    ) -> Between:
        """Return the changes from one position to the other, in a run that is there at the later one.

        `shown` returns a row as the reader may see it.
        """
        after = await self.at(flow, key, last, run)
        run = after.instance.row.run
        try:
            before: Past | None = await self.at(flow, key, first, run)
        except NotFoundError:
            before = None
        known = len(before.timeline) if before else 0
        if before is None:
            fields = fields_of(shown(after.instance.row))
            changed = [Changed(name, NOTHING, value) for name, value in fields.items() if value != NOTHING]
        else:
            changed = compared(shown(before.instance.row), shown(after.instance.row))
        return Between(before, after, changed, after.timeline[known:])

    async def _past(self, row: InstanceView, runs: list[str], last: Record) -> Past:
        detail = detail_of(row)
        timers = detail.timers
        instance = Instance(row, detail, waiting_for(detail), timers[0][1] if timers else "", runs)
        table = self._flows.table(row.flow)
        rows: list[HistoryRow] = []
        async for each in self._histories.rows(row.flow, row.key, row.run, Attribution(table)):
            if each.offset > last.offset:
                break
            rows.append(each)
        return Past(instance, timeline(table.nearest(detail.version), rows), last.offset, last.stamp_ms)

    async def _records(self, flow: str, key: str) -> list[Record]:
        found: list[Record] = []
        while page := await self._recording.history(flow, key, found[-1].offset if found else -1, PAGE):
            found += page
        return found

    async def _folded(self, flow: str, key: str, records: Sequence[Record]) -> list[InstanceView]:
        """Return the key's runs after these records, oldest first."""
        table = self._flows.table(flow)
        partitions = await self._recording.partitions(flow)
        partition = partition_of(key, partitions)
        fold = PartitionFold(table, partition, partitions, self._attributes_of, self._fields_of)
        fold.put({}, [key])
        views = {view.run: view for view in fold.fold(records, 0).views}
        return sorted(views.values(), key=lambda view: view.started_ms)

    async def _nothing(self, flow: str, key: str, until: Until, run: str) -> NotFoundError:
        records = await self._records(flow, key)
        first = records[0] if records else None
        remedy = f"Its log begins at offset {first.offset}, {moment(first.stamp_ms)}." if first else "Check the key."
        known = counted(len(records), "event")
        return NotFoundError(
            f"there is no run{f' {run!r}' if run else ''} of key {key!r} at {until}",
            where=f"flow {flow}, {self._recording.place}, {known} of the key",
            remedy=remedy,
        )
