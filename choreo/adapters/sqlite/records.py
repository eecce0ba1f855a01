"""The records: appending inside a transaction, scanning, and the tail that readers of this process get without SQL.

What is remembered here of the file (ends, tails) is dropped when another process has written or a transaction was
undone. Knows no groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.bell import Bell
from choreo.adapters.refusals import no_partition, no_topic
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database, NotTextError
from choreo.adapters.sqlite.disk import Disk
from choreo.adapters.sqlite.rows import COLUMNS, records_of, records_of_bytes, row_of
from choreo.adapters.sqlite.schema import OFFSET_BITS, SPAN
from choreo.adapters.sqlite.watch import Watch
from choreo.adapters.sqlite.writer import Writer
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock

# A reader in step takes what was just written; one that is this far behind reads the file. 1,024 records are two full
# polls of one partition, sixteen of eight; at 1 to 1.5 KB each, 8 partitions keep 12 MB (twice that before a trim).
_TAIL = 1_024

# How many rows a scan for few types may pass over at a time: about 2 ms in which nothing else runs.
_STRIDE = 5_000

_INSERT = Bulk(f"records ({COLUMNS})")
_SELECT = f"SELECT {COLUMNS} FROM records WHERE place >= ? AND place < ?"  # noqa: S608 -- our own names
_LAST = "SELECT place, stamp_ms FROM records WHERE place >= ? AND place < ? ORDER BY place DESC LIMIT 1"


class Records:
    """The records of every topic."""

    def __init__(self, database: Database, disk: Disk, writer: Writer, watch: Watch, bell: Bell, clock: Clock) -> None:
        self._database = database
        self._disk = disk
        self._writer = writer
        self._watch = watch
        self._bell = bell
        self._clock = clock
        self._lanes: dict[str, list[int]] = {}
        self._ends: dict[int, tuple[int, int]] = {}
        """Lane → (place of the next record, last stamp)."""
        self._tails: dict[int, list[Record]] = {}

    def forget(self) -> None:
        """Another process has written: look again."""
        self._ends.clear()

    def undone(self) -> None:
        """A transaction of ours was undone, perhaps with a topic made in it: look again."""
        self._ends.clear()
        self._lanes.clear()

    def lanes(self, topic: str) -> list[int]:
        """The lane of each partition; raises NotFoundError. A topic never changes once it exists."""
        lanes = self._lanes.get(topic)
        if lanes is None:
            rows = self._database.query("SELECT lane FROM lanes WHERE topic = ? ORDER BY partition", (topic,))
            if not rows:
                raise no_topic(topic)
            lanes = self._lanes[topic] = [lane for (lane,) in rows]
        return lanes

    def lane(self, topic: str, partition: int) -> int:
        """The lane of one partition; raises NotFoundError."""
        lanes = self.lanes(topic)
        if not 0 <= partition < len(lanes):
            raise no_partition(topic, partition, len(lanes))
        return lanes[partition]

    def append(self, topic: str, events: Sequence[Envelope]) -> list[Record]:
        """Inside a transaction: write the events, stamped now but never below the last stamp of their partition."""
        lanes = self.lanes(topic)
        count, ends, now_ms = len(lanes), self._ends, self._clock.now_ms()
        records, rows = [], []
        for event in events:
            partition = partition_of(event.key, count)
            lane = lanes[partition]
            place, last_ms = ends.get(lane) or self._end(lane)
            stamp_ms = max(last_ms, now_ms)
            record = Record(topic, partition, place - (lane << OFFSET_BITS), stamp_ms, event)
            ends[lane] = (place + 1, stamp_ms)
            records.append(record)
            rows.append(row_of(place, record))
        if records:
            _INSERT.write(self._database.connection, rows)
            self._writer.after_commit(lambda: self._keep(topic, lanes, records))
        return records

    def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get."""
        self._watch.look()
        lane = self.lane(topic, partition)
        return (self._ends.get(lane) or self._end(lane))[0] - (lane << OFFSET_BITS)

    def ends(self, topic: str) -> list[int]:
        """As `end`, of every partition, as far as is known here."""
        known, end = self._ends, self._end
        return [(known.get(lane) or end(lane))[0] % SPAN for lane in self.lanes(topic)]

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """At most `limit` records of these types from `offset` on, and the offset up to which was looked.

        May stop early, but never short of the end without having moved.
        """
        lane = self.lanes(topic)[partition]
        base = lane << OFFSET_BITS
        end = (self._ends.get(lane) or self._end(lane))[0] - base
        if offset >= end:
            return (), offset
        tail = self._tails.get(lane)
        if tail and offset >= tail[0].offset and tail[-1].offset >= offset:
            return _of_types(tail, offset - tail[0].offset, limit, types)
        if types is None:
            found = self._select(topic, partition, offset, SPAN, limit)
            return found, found[-1].offset + 1 if found else end
        until = min(end, offset + _STRIDE)
        asked = f"type IN ({', '.join('?' * len(types))})"
        found = self._select(topic, partition, offset, until, limit, asked, tuple(types))
        return found, found[-1].offset + 1 if len(found) == limit else until

    def of_key(self, topic: str, key: str, after: int, limit: int) -> list[Record]:
        """The key's records in its partition, from after that offset."""
        partition = partition_of(key, len(self.lanes(topic)))
        return self._select(topic, partition, after + 1, SPAN, limit, "key = ?", (key,))

    def place(self, record: Record) -> int:
        """The record's primary key."""
        return (self.lanes(record.topic)[record.partition] << OFFSET_BITS) + record.offset

    def at(self, place: int) -> Record:
        """The record of this primary key; raises StorageError if there is none."""
        rows = self._database.query("SELECT topic, partition FROM lanes WHERE lane = ?", (place >> OFFSET_BITS,))
        offset = place % SPAN
        found = [record for topic, number in rows for record in self._select(topic, number, offset, offset + 1, 1)]
        if not found:
            raise StorageError(
                f"the log has no record at place {place}, where an outcome was published",
                where=str(self._database.path),
                remedy="Another program has deleted it: restore the file from a copy.",
            )
        return found[0]

    def _select(
        self,
        topic: str,
        partition: int,
        first: int,
        until: int,
        limit: int,
        asked: str = "1",
        values: tuple[str, ...] = (),
    ) -> list[Record]:
        """Records of offsets first ≤ … < until for which the condition `asked` holds."""
        base = self.lane(topic, partition) << OFFSET_BITS
        sql = f"{_SELECT} AND {asked} ORDER BY place LIMIT ?"
        arguments = (base + min(max(0, first), SPAN), base + until, *values, limit)
        try:
            return records_of(self._database.query(sql, arguments), topic, partition, base)
        except NotTextError:
            return records_of_bytes(self._database.query_bytes(sql, arguments), topic, partition, base)

    def _end(self, lane: int) -> tuple[int, int]:
        base = lane << OFFSET_BITS
        rows = self._database.query(_LAST, (base, base + SPAN))
        end = self._ends[lane] = (rows[0][0] + 1, rows[0][1]) if rows else (base, 0)
        return end

    def _keep(self, topic: str, lanes: Sequence[int], records: Sequence[Record]) -> None:
        """After the commit: lengthen the tails, as long as nobody has written in between, and wake the readers."""
        self._disk.recorded()
        news: dict[int, list[Record]] = {}
        for record in records:
            news.setdefault(record.partition, []).append(record)
        for partition, new in news.items():
            tail = self._tails.setdefault(lanes[partition], [])
            if tail and new[0].offset != tail[-1].offset + 1:
                tail.clear()
            tail += new
            if len(tail) > 2 * _TAIL:
                del tail[:-_TAIL]
        self._bell.ring(topic, frozenset([record.event.type for record in records]))


def _of_types(
    tail: Sequence[Record], start: int, limit: int, types: frozenset[str] | None
) -> tuple[Sequence[Record], int]:
    if types is None:
        found = tail[start : start + limit]
        return found, found[-1].offset + 1
    found = []
    for at in range(start, len(tail)):
        record = tail[at]
        if record.event.type in types:
            found.append(record)
            if len(found) == limit:
                return found, record.offset + 1
    return found, tail[-1].offset + 1
