"""The records: append inside a transaction, scan, and a cached tail that readers of this process get without SQL.

The cached values (ends, tails) are dropped when another process has written or a transaction was rolled back. Knows no
groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.errors import no_partition, no_topic
from choreo.adapters.notifier import Notifier
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.change_notifier import ChangeNotifier
from choreo.adapters.sqlite.database import Database, NotTextError
from choreo.adapters.sqlite.record_rows import COLUMNS, records_of, records_of_bytes, row_of
from choreo.adapters.sqlite.schema import OFFSET_BITS, SPAN
from choreo.adapters.sqlite.wal_sync import WalSync
from choreo.adapters.sqlite.writer import Writer
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock

# An up-to-date reader takes the newest records from memory; a reader that is this far behind reads the file. 1,024
# records are two full polls of one partition, sixteen of eight; at 1 to 1.5 KB each, 8 partitions keep 12 MB (twice
# that before a trim).
_TAIL = 1_024

# Rows that a scan for few types may skip at a time: about 2 ms in which nothing else runs.
_STRIDE = 5_000

_INSERT = Bulk(f"records ({COLUMNS})")
_SELECT = f"SELECT {COLUMNS} FROM records WHERE place >= ? AND place < ?"  # noqa: S608 -- our own names
_LAST = "SELECT place, stamp_ms FROM records WHERE place >= ? AND place < ? ORDER BY place DESC LIMIT 1"


class Records:
    """The records of every topic."""

    def __init__(
        self,
        database: Database,
        wal_sync: WalSync,
        writer: Writer,
        watch: ChangeNotifier,
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._database = database
        self._wal_sync = wal_sync
        self._writer = writer
        self._changes = watch
        self._notifier = notifier
        self._clock = clock
        self._partition_ids: dict[str, list[int]] = {}
        self._ends: dict[int, tuple[int, int]] = {}
        """Partition id → (place of the next record, last timestamp)."""
        self._tails: dict[int, list[Record]] = {}

    def forget(self) -> None:
        """Drop the cached values after a write of another process."""
        self._ends.clear()

    def undone(self) -> None:
        """Drop the cached values after a rollback: the transaction may have created a topic."""
        self._ends.clear()
        self._partition_ids.clear()

    def partition_ids(self, topic: str) -> list[int]:
        """Return the id of each partition; raises NotFoundError. A topic never changes once it exists."""
        partition_ids = self._partition_ids.get(topic)
        if partition_ids is None:
            rows = self._database.query(
                "SELECT partition_id FROM partitions WHERE topic = ? ORDER BY partition", (topic,)
            )
            if not rows:
                raise no_topic(topic)
            partition_ids = self._partition_ids[topic] = [partition_id for (partition_id,) in rows]
        return partition_ids

    def partition_id(self, topic: str, partition: int) -> int:
        """Return the id of one partition; raises NotFoundError."""
        partition_ids = self.partition_ids(topic)
        if not 0 <= partition < len(partition_ids):
            raise no_partition(topic, partition, len(partition_ids))
        return partition_ids[partition]

    def append(self, topic: str, events: Sequence[Envelope]) -> list[Record]:
        """Write the events inside a transaction, stamped now but never below the last timestamp of their partition."""
        partition_ids = self.partition_ids(topic)
        count, ends, now_ms = len(partition_ids), self._ends, self._clock.now_ms()
        records, rows = [], []
        for event in events:
            partition = partition_of(event.key, count)
            partition_id = partition_ids[partition]
            place, last_ms = ends.get(partition_id) or self._end(partition_id)
            stamp_ms = max(last_ms, now_ms)
            record = Record(topic, partition, place - (partition_id << OFFSET_BITS), stamp_ms, event)
            ends[partition_id] = (place + 1, stamp_ms)
            records.append(record)
            rows.append(row_of(place, record))
        if records:
            _INSERT.write(self._database.connection, rows)
            self._writer.after_commit(lambda: self._keep(topic, partition_ids, records))
        return records

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record."""
        self._changes.look()
        partition_id = self.partition_id(topic, partition)
        return (self._ends.get(partition_id) or self._end(partition_id))[0] - (partition_id << OFFSET_BITS)

    def ends(self, topic: str) -> list[int]:
        """Return the ends of all partitions, as far as this process knows them."""
        known, end = self._ends, self._end
        return [(known.get(partition_id) or end(partition_id))[0] % SPAN for partition_id in self.partition_ids(topic)]

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """Return at most `limit` records of these types from `offset` on, and the offset up to which it looked.

        It may stop early, but it always moves forward unless it is at the end.
        """
        partition_id = self.partition_ids(topic)[partition]
        base = partition_id << OFFSET_BITS
        end = (self._ends.get(partition_id) or self._end(partition_id))[0] - base
        if offset >= end:
            return (), offset
        tail = self._tails.get(partition_id)
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
        """Return the key's records of its partition with an offset greater than `after`."""
        partition = partition_of(key, len(self.partition_ids(topic)))
        return self._select(topic, partition, after + 1, SPAN, limit, "key = ?", (key,))

    def place(self, record: Record) -> int:
        """Return the record's primary key."""
        return (self.partition_ids(record.topic)[record.partition] << OFFSET_BITS) + record.offset

    def at(self, place: int) -> Record:
        """Return the record of this primary key; raises StorageError if there is none."""
        rows = self._database.query(
            "SELECT topic, partition FROM partitions WHERE partition_id = ?", (place >> OFFSET_BITS,)
        )
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
        """Return records of offsets first ≤ … < until that fulfil the condition `asked`."""
        base = self.partition_id(topic, partition) << OFFSET_BITS
        sql = f"{_SELECT} AND {asked} ORDER BY place LIMIT ?"
        arguments = (base + min(max(0, first), SPAN), base + until, *values, limit)
        try:
            return records_of(self._database.query(sql, arguments), topic, partition, base)
        except NotTextError:
            return records_of_bytes(self._database.query_bytes(sql, arguments), topic, partition, base)

    def _end(self, partition_id: int) -> tuple[int, int]:
        base = partition_id << OFFSET_BITS
        rows = self._database.query(_LAST, (base, base + SPAN))
        end = self._ends[partition_id] = (rows[0][0] + 1, rows[0][1]) if rows else (base, 0)
        return end

    def _keep(self, topic: str, partition_ids: Sequence[int], records: Sequence[Record]) -> None:
        """Extend the cached tails and wake the readers, after the commit.

        The tails stay as they are if another process has written in between.
        """
        self._wal_sync.recorded()
        news: dict[int, list[Record]] = {}
        for record in records:
            news.setdefault(record.partition, []).append(record)
        for partition, new in news.items():
            tail = self._tails.setdefault(partition_ids[partition], [])
            if tail and new[0].offset != tail[-1].offset + 1:
                tail.clear()
            tail += new
            if len(tail) > 2 * _TAIL:
                del tail[:-_TAIL]
        self._notifier.notify(topic, frozenset([record.event.type for record in records]))


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
