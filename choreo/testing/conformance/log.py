"""The suite of the log port without groups: topics, appending, reading, stamps."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from choreo.core.errors import ConflictError, NotFoundError, SettingsError
from choreo.core.events import SENT_ON, Envelope, Position
from choreo.core.partition import partition_of
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, Backend, event

JAVA_HASHES = {
    "21": -973_932_308,
    "foobar": -790_332_482,
    "a-little-bit-long-string": -985_981_536,
    "a-little-bit-longer-string": -1_486_304_829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58_897_971,
    "abc": 479_470_107,
}
"""Key → its murmur2 hash. Source: org.apache.kafka.common.utils.UtilsTest.testMurmur2."""


class LogSuite:
    """The behaviour of a log."""

    async def test_a_topic_is_made_once(self, backend: Backend) -> None:
        """Allow to create it again; refuse another partition count, because keys would move."""
        await backend.log.create(TOPIC, 4)
        await backend.log.create(TOPIC, 4)
        assert await backend.log.partitions(TOPIC) == 4
        with pytest.raises(SettingsError, match="4 partitions, not 8"):
            await backend.log.create(TOPIC, 8)
        with pytest.raises(SettingsError, match="no number of partitions"):
            await backend.log.create("other", 0)

    async def test_an_unknown_topic_is_an_error(self, backend: Backend) -> None:
        """Raise NotFoundError for an unknown topic or partition, instead of an empty answer."""
        with pytest.raises(NotFoundError, match="no such topic"):
            await backend.log.partitions(TOPIC)
        with pytest.raises(NotFoundError, match="no such topic"):
            await backend.log.append(TOPIC, [event("e-1")])
        with pytest.raises(NotFoundError, match="no such topic"):
            await backend.log.consumer(TOPIC, "payment", "a")
        await backend.log.create(TOPIC, 4)
        with pytest.raises(NotFoundError, match="no partition 4"):
            await backend.log.read(TOPIC, 4, 0, 10)
        with pytest.raises(NotFoundError, match="no partition -1"):
            await backend.log.end(TOPIC, -1)

    async def test_an_event_lies_in_its_keys_partition(self, backend: Backend) -> None:
        """Use Java's partitioner, keep the order of appending, and return positions in the same order."""
        await backend.log.create(TOPIC, 4)
        events = [event(f"e-{n}", key=f"o-{n % 5}") for n in range(40)]
        positions = await backend.log.append(TOPIC, events)
        assert [position.partition for position in positions] == [partition_of(e.key, 4) for e in events]
        for partition in range(4):
            records = await backend.log.read(TOPIC, partition, 0, 100)
            assert [record.event for record in records] == [e for e in events if partition_of(e.key, 4) == partition]
            assert [record.offset for record in records] == list(range(len(records)))
            assert await backend.log.end(TOPIC, partition) == len(records)
            assert {record.position for record in records} <= set(positions)

    async def test_a_key_lies_where_javas_producers_put_it(self, backend: Backend) -> None:
        """Compare with hashes that Kafka's own tests of its Java client have."""
        await backend.log.create(TOPIC, 4)
        positions = await backend.log.append(TOPIC, [event(f"e-{key}", key=key) for key in JAVA_HASHES])
        assert [at.partition for at in positions] == [(known & 0x7FFFFFFF) % 4 for known in JAVA_HASHES.values()]

    async def test_every_field_survives(self, backend: Backend) -> None:
        """Read each field as it was written."""
        await backend.log.create(TOPIC, 1)
        # A value of its own in every field, by the kind of its default or, where it has none, text.
        values: dict[str, Any] = {}
        for number, field in enumerate(msgspec.structs.fields(Envelope)):
            kind = str if field.default is msgspec.NODEFAULT else type(field.default)
            # The headers of a trace are sent on by handlers: control characters do not pass a log.
            text = f"{field.name}=é" if field.name in SENT_ON else f"{field.name} é \u0000"
            values[field.name] = {str: text, int: number + 2, bool: True, bytes: b"\x00\xff"}[kind]
        full = Envelope(**values)
        await backend.log.append(TOPIC, [full, event("plain")])
        read = await backend.log.read(TOPIC, 0, 0, 2)
        assert read[0].event == full
        assert read[1].event == event("plain")

    async def test_reading_goes_from_an_offset_to_the_end(self, backend: Backend) -> None:
        """Keep the limit; return nothing at the end."""
        await backend.log.create(TOPIC, 1)
        for first in range(0, 30, 3):
            await backend.log.append(TOPIC, [event(f"e-{first + n}") for n in range(3)])
        assert [r.event.id for r in await backend.log.read(TOPIC, 0, 10, 5)] == [f"e-{n}" for n in range(10, 15)]
        assert [r.offset for r in await backend.log.read(TOPIC, 0, 28, 5)] == [28, 29]
        assert list(await backend.log.read(TOPIC, 0, 30, 5)) == []
        assert list(await backend.log.read(TOPIC, 0, 99, 5)) == []

    async def test_a_scan_finds_the_records_of_some_types(self, backend: Backend) -> None:
        """Return them in order and each once, with any limit; at the end go on from the same offset."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event(f"e-{n}", type_="OrderPlaced" if n % 3 else "Other") for n in range(30)])
        for size in (1, 7, 100):
            at, found = 4, list[int]()
            while True:
                records, following = await backend.log.scan(TOPIC, 0, at, size, frozenset({"Other", "Another"}))
                found += [record.offset for record in records]
                if following == at:
                    break
                at = following
            assert (found, at) == ([6, 9, 12, 15, 18, 21, 24, 27], 30)

    async def test_a_scan_leaves_out_what_its_caller_does_not_admit(self, backend: Backend) -> None:
        """Ask once for each record of the types, in the order of the log; go on from the same offsets."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event(f"e-{n}", f"o-{n % 3}", type_="Other") for n in range(9)])
        await backend.log.append(TOPIC, [event("e-9", "o-1")])
        asked = list[tuple[str, str]]()

        def admits(type_: str, key: str) -> bool:
            asked.append((type_, key))
            return key == "o-1"

        found, following = await backend.log.scan(TOPIC, 0, 0, 100, frozenset({"Other"}), admits)
        assert [record.event.id for record in found] == ["e-1", "e-4", "e-7"]
        assert asked == [("Other", f"o-{n % 3}") for n in range(9)]
        assert following == 10

    async def test_stamps_never_go_back(self, backend: Backend, clock: VirtualClock) -> None:
        """Stamp by the clock, but never below the partition's last stamp."""
        await backend.log.create(TOPIC, 1)
        start_ms = clock.now_ms()
        await backend.log.append(TOPIC, [event("e-1")])
        await clock.advance(2)
        await backend.log.append(TOPIC, [event("e-2")])
        clock.set_back(5)
        await backend.log.append(TOPIC, [event("e-3")])
        stamps = [record.stamp_ms - start_ms for record in await backend.log.read(TOPIC, 0, 0, 10)]
        assert stamps == [0, 2_000, 2_000]

    @pytest.mark.parametrize(("key", "says"), [("", "without a key"), ("o-\ud800", "not text that UTF-8 can hold")])
    async def test_a_key_that_could_not_be_found_again_is_refused(self, backend: Backend, key: str, says: str) -> None:
        """Refuse the whole batch with it: nothing is half published."""
        await backend.log.create(TOPIC, 1)
        with pytest.raises(ConflictError, match=says):
            await backend.log.append(TOPIC, [event("e-1"), event("e-2", key=key)])
        assert await backend.log.end(TOPIC, 0) == 0

    async def test_a_duplicate_may_stand_in_the_log(self, backend: Backend) -> None:
        """Keep both; readers drop the second by its id."""
        await backend.log.create(TOPIC, 1)
        positions = await backend.log.append(TOPIC, [event("e-1"), event("e-1")])
        assert positions == [Position(TOPIC, 0, 0), Position(TOPIC, 0, 1)]

    async def test_an_empty_append_is_nothing(self, backend: Backend) -> None:
        """Return no position."""
        await backend.log.create(TOPIC, 1)
        assert list(await backend.log.append(TOPIC, [])) == []
        assert await backend.log.end(TOPIC, 0) == 0
