"""A recording in a file: JSON lines with the views, dead letters and records of one flow, or of some of its keys.

The first line names the flow, its partitions and the offsets of the views; the last line shows that the file is whole.
A payload whose schema another machine may lack is kept as JSON beside its bytes. A file is read line by line: memory
holds the place of each line, not its record.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
from msgspec.structs import replace

from choreo.adapters.envelope_codec import NamedEnvelope, envelopes, named
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.ports.read_model import InstanceView
from choreo.ports.recording import Recording

FORMAT = 1
JSON = "application/json"
PAGE = 1_000
_DAMAGED = "Export it again; a file that was cut off or edited cannot be replayed."

JsonOf = Callable[[Envelope], Mapping[str, Any] | None]
"""Return a payload's fields, ready for JSON; None where the bytes are JSON already, or cannot be read."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    recording: int
    """Format of the file."""
    flow: str
    version: int
    """Version of the flow in the project that exported it."""
    partitions: int
    positions: dict[int, int]
    """Offsets up to which the views are true, by partition."""
    keys: list[str]
    """Empty: all keys."""
    as_of_ms: int


class _Recorded(msgspec.Struct, omit_defaults=True):
    """A record."""

    partition: int
    offset: int
    stamp_ms: int
    event: msgspec.Raw
    log_id: str = ""
    fields: dict[str, Any] | None = None
    """Those of the payload, ready for JSON; they are read in place of its bytes."""


class _RecordLine(msgspec.Struct):
    record: _Recorded


class _ViewLine(msgspec.Struct):
    view: InstanceView


class _Event(msgspec.Struct):
    key: str = ""


class _Place(msgspec.Struct):
    partition: int
    offset: int
    event: _Event


class _Skipped(msgspec.Struct):
    """A part that an index does not need."""


class _Indexed(msgspec.Struct):
    """A line as far as its place needs it."""

    record: _Place | None = None
    view: _Skipped | None = None
    dead_letter: list[int] | None = None
    end: dict[str, int] | None = None


_encode = msgspec.json.Encoder().encode
_event = msgspec.json.Decoder(NamedEnvelope).decode


class Export:
    """Writes a recording to a file that must not exist yet; it gets its name when it is whole."""

    def __init__(self, path: Path, head: Head) -> None:
        """Open the file. Raises ConflictError if it exists, OSError if it cannot be written."""
        if path.exists():
            raise ConflictError("the file exists", where=str(path), remedy="Give another name, or remove it.")
        self.records: int = 0
        self.views: int = 0
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._file: BinaryIO = self._part.open("wb")
        try:
            self._line(head)
        except OSError:
            self._give_up()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Write the last line and give the file its name; after an error remove it."""
        try:
            if error is None:
                self._line({"end": {"records": self.records, "views": self.views}})
                self._file.close()
                self._part.replace(self._path)
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Remove the part of a file; there is none where it has got its name."""
        with suppress(OSError):  # a full disk refuses the rest that is to be written
            self._file.close()
        with suppress(OSError):
            self._part.unlink()

    def add_view(self, view: InstanceView) -> None:
        """Write a shown run."""
        self.views += 1
        self._line(_ViewLine(view))

    def add_dead_letter(self, partition: int, offset: int) -> None:
        """Write the place of a dead letter."""
        self._line({"dead_letter": (partition, offset)})

    def add_record(self, record: Record, fields: Mapping[str, Any] | None) -> None:
        """Write a record; `fields` are those of its payload where other machines may not have the schema."""
        self.records += 1
        (event,) = named([record.event])
        known = None if fields is None else dict(fields)
        line = _Recorded(
            record.partition, record.offset, record.stamp_ms, msgspec.Raw(_encode(event)), record.log_id, known
        )
        self._line(_RecordLine(line))

    def _line(self, value: Any) -> None:
        self._file.write(_encode(value) + b"\n")


async def export(recording: Recording, head: Head, path: Path, fields_of: JsonOf, limit: int = PAGE) -> Export:
    """Write the views, dead letters and records of one flow, in this order, so that each view's record is there.

    Raises ConflictError if the file exists, OSError if it cannot be written.
    """
    flow, keys = head.flow, set(head.keys)
    with Export(path, head) as written:
        for key in head.keys or [""]:
            async for view in recording.views(flow, key):
                written.add_view(view)
        for partition, offset in sorted(await recording.set_aside(flow)):
            written.add_dead_letter(partition, offset)
        wanted = {partition_of(key, head.partitions) for key in keys} if keys else range(head.partitions)
        for partition in sorted(wanted):
            offset = 0
            while records := await recording.read(flow, partition, offset, limit):
                for record in records:
                    if not keys or record.event.key in keys:
                        written.add_record(record, fields_of(record.event))
                offset = records[-1].offset + 1
    return written


class RecordingFile:
    """`choreo.ports.recording.Recording` in a file. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Read the places of all lines. Raises DecodeError on a damaged file, NotFoundError if there is none."""
        self.place: str = str(path)
        try:
            self._file: BinaryIO = path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError("there is no such file", where=str(path), remedy="Check its name.") from error
        except OSError as error:
            remedy = "Give a file that `choreo replay --export` has written."
            raise DecodeError(f"it cannot be read: {error.strerror}", where=str(path), remedy=remedy) from error
        self.head: Head = self._head()
        self._offsets: list[array[int]] = [array("q") for _ in range(self.head.partitions)]
        self._lines: list[array[int]] = [array("q") for _ in range(self.head.partitions)]
        self._keys: dict[str, array[int]] = {}
        self._views = array("q")
        self._aside: set[tuple[int, int]] = set()
        self._index()

    @property
    def as_of_ms(self) -> int:
        """Return when it was exported."""
        return self.head.as_of_ms

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the flow's log; raises NotFoundError for another flow."""
        self._known(topic)
        return self.head.partitions

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on."""
        self._known(topic)
        begin = bisect_left(self._offsets[partition], offset)
        return [self._record(at) for at in self._lines[partition][begin : begin + limit]]

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1_000) -> list[Record]:
        """Return the key's records after that offset. Raises NotFoundError for a key that was not exported."""
        self._known(flow)
        if self.head.keys and key not in self.head.keys:
            raise NotFoundError(
                f"the recording has no key {key!r}",
                where=self.place,
                remedy=f"It was exported for {', '.join(self.head.keys[:5])} alone.",
            )
        found: list[Record] = []
        for at in self._keys.get(key, ()):
            record = self._record(at)
            if record.offset > after and partition_of(key, self.head.partitions) == record.partition:
                found.append(record)
            if len(found) == limit:
                break
        return found

    async def views(self, flow: str, key: str = "") -> AsyncIterator[InstanceView]:
        """Yield the runs as they were shown."""
        self._known(flow)
        for at in self._views:
            row = self._decoded(at, _ViewLine).view
            if key in ("", row.key):
                yield row

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the offsets up to which the views are true."""
        self._known(topic)
        return self.head.positions

    async def set_aside(self, topic: str) -> AbstractSet[tuple[int, int]]:
        """Return the places of the dead letters."""
        self._known(topic)
        return self._aside

    def _known(self, topic: str) -> None:
        if topic != self.head.flow:
            raise NotFoundError(
                f"the recording has no flow {topic!r}", where=self.place, remedy=f"It is one of {self.head.flow}."
            )

    def _head(self) -> Head:
        try:
            head = msgspec.json.decode(self._file.readline(), type=Head)
        except (msgspec.MsgspecError, RecursionError) as error:
            remedy = "Give a file that `choreo replay --export` has written."
            raise DecodeError(f"it is no recording: {error}", where=f"{self.place}, line 1", remedy=remedy) from error
        if head.recording != FORMAT or head.partitions < 1:
            raise DecodeError(
                f"a recording of format {head.recording} cannot be read here",
                where=f"{self.place}, line 1",
                remedy="Use the version of choreo that exported it, or a newer one.",
            )
        return head

    def _index(self) -> None:
        """Note the place of every line; raises DecodeError on a damaged file."""
        decode = msgspec.json.Decoder(_Indexed).decode
        number, end, at = 1, None, self._file.tell()
        for line in self._file:
            number += 1
            try:
                found = decode(line)
                if found.record is not None:
                    self._add(found.record, at)
                elif found.view is not None:
                    self._views.append(at)
                elif found.dead_letter is not None:
                    self._aside.add((found.dead_letter[0], found.dead_letter[1]))
                end = found.end
            except (msgspec.MsgspecError, RecursionError, IndexError) as error:
                raise self._damaged(number, str(error)) from error
            at += len(line)
        known = {"records": sum(map(len, self._offsets)), "views": len(self._views)}
        if end != known:
            raise self._damaged(number, "its end is missing" if end is None else "lines are missing")

    def _add(self, place: _Place, at: int) -> None:
        offsets = self._offsets[place.partition]
        if offsets and offsets[-1] >= place.offset:
            raise IndexError("its records are not in the order of the log")
        offsets.append(place.offset)
        self._lines[place.partition].append(at)
        self._keys.setdefault(place.event.key, array("q")).append(at)

    def _damaged(self, number: int, why: str) -> DecodeError:
        return DecodeError(f"it is damaged: {why}", where=f"{self.place}, line {number}", remedy=_DAMAGED)

    def _decoded(self, at: int, type_: type[Any]) -> Any:
        self._file.seek(at)
        try:
            return msgspec.json.decode(self._file.readline(), type=type_)
        except msgspec.MsgspecError as error:
            raise DecodeError(f"it is damaged: {error}", where=f"{self.place}, byte {at}", remedy=_DAMAGED) from error

    def _record(self, at: int) -> Record:
        line = self._decoded(at, _RecordLine).record
        try:
            (event,) = envelopes([_event(line.event)])
        except msgspec.MsgspecError as error:
            raise DecodeError(f"it is damaged: {error}", where=f"{self.place}, byte {at}", remedy=_DAMAGED) from error
        if line.fields is not None:
            event = replace(event, content_type=JSON, data=_encode(line.fields))
        return Record(self.head.flow, line.partition, line.offset, line.stamp_ms, event, line.log_id)
