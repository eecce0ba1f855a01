"""Who owns what, with a real broker and time that passes: shares, leaving, silence, coming back, giving up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.topics import tracker_app
from choreo.core.errors import LeaseLostError
from choreo.core.events import Record
from choreo.ports.log import TRACKER_GROUP, Gained, Member, Work
from choreo.testing.conformance import TOPIC, event, keys_of_partition
from tests.adapters.kafka.conftest import OpenLog

PARTITIONS = 4
WITHIN_S = 40.0


class Seat:
    """A member, and what it has been given."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.owned: dict[int, Gained] = {}
        self.records: list[Record] = []
        self.lost: list[int] = []

    async def look(self) -> None:
        """One poll."""
        poll = await self.member.poll(100, 0.2)
        for partition in poll.lost:
            self.lost.append(partition)
            self.owned.pop(partition, None)
        self.owned.update((gained.partition, gained) for gained in poll.gained)
        self.records += poll.records


async def seated(log: KafkaLog, name: str) -> Seat:
    """A new member of the group."""
    return Seat(await log.member(TOPIC, "payment", name))


async def until(fact: Callable[[], bool], *seats: Seat) -> None:
    """Let them poll until the fact holds; no partition is ever with two."""
    async with asyncio.timeout(WITHIN_S):
        while not fact():
            await asyncio.gather(*(seat.look() for seat in seats))
            owned = [partition for seat in seats for partition in seat.owned]
            assert len(owned) == len(set(owned))


async def leave(*seats: Seat) -> None:
    """They go."""
    await asyncio.gather(*(seat.member.close() for seat in seats))


async def test_shares_differ_by_one_at_most_and_only_those_that_move_are_given_up(open_log: OpenLog) -> None:
    """A newcomer takes its share; the others keep the rest, and work on."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    first = await seated(log, "a")
    await until(lambda: len(first.owned) == PARTITIONS, first)
    second = await seated(log, "b")
    await until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
    assert len(first.lost) == 2
    third = await seated(log, "c")
    await until(lambda: bool(third.owned) and len(first.owned) + len(second.owned) == 3, first, second, third)
    assert len(first.lost) + len(second.lost) == 3
    await leave(second, third)
    await until(lambda: len(first.owned) == PARTITIONS, first)
    await leave(first)


async def test_what_was_given_up_is_refused(open_log: OpenLog) -> None:
    """With nothing written; what is still owned is not."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    first = await seated(log, "a")
    await until(lambda: len(first.owned) == PARTITIONS, first)
    second = await seated(log, "b")
    await until(lambda: len(second.owned) == 2, first, second)
    with pytest.raises(LeaseLostError, match="belong to another member"):
        await first.member.commit(Work([event("late")], {first.lost[0]: 1}))
    assert [await log.end(TOPIC, partition) for partition in range(PARTITIONS)] == [0, 0, 0, 0]
    await first.member.commit(Work(done=dict.fromkeys(first.owned, 0)))
    await leave(first, second)


async def test_giving_up_waits_until_what_is_finished_is_written(open_log: OpenLog) -> None:
    """A host that was told of it commits no more for it, but what it says before it polls again comes first."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    first = await seated(log, "a")
    await until(lambda: len(first.owned) == PARTITIONS, first)
    second = await seated(log, "b")
    polling = asyncio.ensure_future(second.look())
    while not first.lost:
        await first.look()
    assert not second.owned
    key = keys_of_partition(first.lost[0], PARTITIONS, 1)[0]
    await first.member.commit(Work([event("last words", key=key)], {first.lost[0]: 0}))
    await polling
    await until(lambda: len(second.owned) == 2, first, second)
    assert second.owned[first.lost[0]].end == 1, "its scan finds them"
    await leave(first, second)


async def test_positions_beside_work_are_told_before_partitions_move(open_log: OpenLog) -> None:
    """Who takes over reads nothing again, nor who comes after a member that left."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    first = await seated(log, "a")
    await until(lambda: len(first.owned) == PARTITIONS, first)
    for offset in (1, 2):
        for partition in range(PARTITIONS):
            key = keys_of_partition(partition, PARTITIONS, 1)[0]
            await first.member.commit(Work([event(f"e-{partition}-{offset}", key=key)], {partition: offset}))
    second = await seated(log, "b")
    await until(lambda: len(second.owned) == 2, first, second)
    assert [gained.committed for gained in second.owned.values()] == [2, 2]
    kept = next(iter(first.owned))
    await first.member.commit(Work([event("last", key=keys_of_partition(kept, PARTITIONS, 1)[0])], {kept: 3}))
    await leave(first, second)
    assert (await log.committed(TOPIC, "payment"))[kept] == 3


async def test_a_silent_member_is_replaced(open_log: OpenLog) -> None:
    """What it commits afterwards moves no position, and its next poll says what it has lost."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    zombie = await seated(log, "a")
    await until(lambda: len(zombie.owned) == PARTITIONS, zombie)
    heir = await seated(log, "b")
    await until(lambda: len(heir.owned) == PARTITIONS, heir)
    await heir.member.commit(Work(done={0: 0}))
    with pytest.raises(LeaseLostError):
        await zombie.member.commit(Work(done={0: 7, 1: 7}))
    assert await log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 0, 3: 0}
    while len(zombie.lost) < PARTITIONS:
        await zombie.look()
    assert sorted(zombie.lost) == [0, 1, 2, 3]
    await leave(zombie, heir)


async def test_a_static_member_that_comes_back_takes_its_seat_at_once(open_log: OpenLog) -> None:
    """The older one of its instance is out, and told so; a restart within the session moves nothing."""
    log, again = open_log("pod-1"), open_log("pod-1")
    await log.create(TOPIC, PARTITIONS)
    older = await seated(log, "a")
    await until(lambda: len(older.owned) == PARTITIONS, older)
    newer = await seated(again, "a")
    await until(lambda: len(newer.owned) == PARTITIONS, newer)
    with pytest.raises(LeaseLostError):
        await older.member.commit(Work(done={0: 1}))
    await until(lambda: sorted(older.lost) == [0, 1, 2, 3], older)
    with pytest.raises(LeaseLostError, match="joined under this name"):
        await until(lambda: False, older)
    await newer.member.commit(Work(done={0: 0}))
    await leave(older, newer)


async def test_a_long_pause_fetches_no_more_and_skips_nothing(open_log: OpenLog) -> None:
    """Thousands wait for a paused partition; all come in order when it goes on."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    seat = await seated(log, "a")
    await until(lambda: len(seat.owned) == PARTITIONS, seat)
    seat.member.pause([0])
    kept, other = (keys_of_partition(partition, PARTITIONS, 1)[0] for partition in (0, 1))
    for batch in range(6):
        await log.append(TOPIC, [event(f"e-{batch}-{n}", key=kept) for n in range(1_000)])
        await log.append(TOPIC, [event(f"other-{batch}", key=other)])
        await until(lambda batch=batch: len(seat.records) == batch + 1, seat)
    assert {record.partition for record in seat.records} == {1}
    seat.records.clear()
    seat.member.resume([0])
    await until(lambda: len(seat.records) == 6_000, seat)
    assert [record.offset for record in seat.records] == list(range(6_000))
    await leave(seat)


async def test_how_far_the_tracker_is_stands_under_the_name_of_its_faust_application(open_log: OpenLog) -> None:
    """Who asks for the tracker's group by the port's word gets what its workers have committed."""
    log = open_log()
    await log.create(TOPIC, 1)
    worker = Seat(await log.member(TOPIC, TRACKER_GROUP, "worker"))
    await until(lambda: 0 in worker.owned, worker)
    await log.append(TOPIC, [event("e-1")])
    await worker.member.commit(Work(done={0: 1}))
    assert await log.committed(TOPIC, TRACKER_GROUP) == await log.committed(TOPIC, tracker_app(TOPIC)) == {0: 1}
    await leave(worker)


async def test_a_member_to_which_nothing_comes_is_told_so(open_log: OpenLog) -> None:
    """Its client thinks that all is well, and records stand in the log. Who holds them back itself is left alone."""
    log = open_log(still_s=0.5)
    await log.create(TOPIC, 1)
    hung = await seated(log, "a")
    await until(lambda: bool(hung.owned), hung)
    # As if it never asked for anything any more: its heartbeats go on.
    member: Any = hung.member
    member._subscription.hold([0])
    member.pause([0])
    await member._subscription.look_up([0])  # calls of the client are made in their order: this one after the hold
    await log.append(TOPIC, [event("e-1")])
    for _ in range(10):
        await hung.look()
    member._paused = frozenset()  # what `resume` does, but for the client
    with pytest.raises(LeaseLostError, match="records stand at offset 0 of partition 0, and none has come"):
        await until(lambda: bool(hung.records), hung)
    await leave(hung)
    heir = await seated(log, "b")
    await until(lambda: bool(heir.records), heir)
    assert [record.event.id for record in heir.records] == ["e-1"]
    for _ in range(10):
        await heir.look()
    await leave(heir)
