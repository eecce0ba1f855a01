"""Partition assignment on a real broker and clock: shares, leaving, silence, rejoining, giving up partitions."""

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import Message

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.groups import thread
from choreo.adapters.kafka.topics import tracker_app
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import LeaseLostError
from choreo.core.events import Record
from choreo.ports.log import TRACKER_GROUP, Assigned, CommitBatch, Consumer
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, event, keys_of_partition
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S

PARTITIONS = 4


class Membership:
    """A consumer, with its partitions and records."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.owned: dict[int, Assigned] = {}
        self.records: list[Record] = []
        self.revoked: list[int] = []

    async def look(self) -> None:
        """Poll once."""
        poll = await self.consumer.poll(100, 0.2)
        for partition in poll.revoked:
            self.revoked.append(partition)
            self.owned.pop(partition, None)
        self.owned.update((assigned.partition, assigned) for assigned in poll.assigned)
        self.records += poll.records


async def seated(log: KafkaLog, name: str) -> Membership:
    """Return a new member of the group."""
    return Membership(await log.consumer(TOPIC, "payment", name))


async def until(fact: Callable[[], bool], *memberships: Membership) -> None:
    """Let them poll until the fact holds; no partition is ever with two."""
    async with asyncio.timeout(PATIENCE_S):
        while not fact():
            await asyncio.gather(*(membership.look() for membership in memberships))
            owned = [partition for membership in memberships for partition in membership.owned]
            assert len(owned) == len(set(owned))


async def alone(log: KafkaLog) -> tuple[KafkaLog, Membership]:
    """Create the topic, and return the log with the first member, which owns every partition."""
    await log.create(TOPIC, PARTITIONS)
    first = await seated(log, "a")
    await until(lambda: len(first.owned) == PARTITIONS, first)
    return log, first


async def leave(*memberships: Membership) -> None:
    """Leave the group."""
    await asyncio.gather(*(membership.consumer.close() for membership in memberships))


async def test_shares_differ_by_one_at_most_and_only_those_that_move_are_given_up(open_log: OpenLog) -> None:
    """A newcomer takes its share; the others keep the rest, and work on."""
    log, first = await alone(open_log())
    second = await seated(log, "b")
    await until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
    assert len(first.revoked) == 2
    third = await seated(log, "c")
    await until(lambda: bool(third.owned) and len(first.owned) + len(second.owned) == 3, first, second, third)
    assert len(first.revoked) + len(second.revoked) == 3
    await leave(second, third)
    await until(lambda: len(first.owned) == PARTITIONS, first)
    await leave(first)


async def test_a_commit_of_a_revoked_partition_is_refused(open_log: OpenLog) -> None:
    """With nothing written; a commit of owned partitions succeeds."""
    log, first = await alone(open_log())
    second = await seated(log, "b")
    await until(lambda: len(second.owned) == 2, first, second)
    with pytest.raises(LeaseLostError, match="belong to another member"):
        await first.consumer.commit(CommitBatch([event("late")], {first.revoked[0]: 1}))
    assert [await log.end(TOPIC, partition) for partition in range(PARTITIONS)] == [0, 0, 0, 0]
    await first.consumer.commit(CommitBatch(done=dict.fromkeys(first.owned, 0)))
    await leave(first, second)


async def test_giving_up_waits_until_what_is_finished_is_written(open_log: OpenLog) -> None:
    """A host commits nothing after it learns of the revocation; commits before its next poll are written first."""
    log, first = await alone(open_log())
    second = await seated(log, "b")
    polling = asyncio.ensure_future(second.look())
    while not first.revoked:
        await first.look()
    assert not second.owned
    key = keys_of_partition(first.revoked[0], PARTITIONS, 1)[0]
    await first.consumer.commit(CommitBatch([event("last words", key=key)], {first.revoked[0]: 0}))
    await polling
    await until(lambda: len(second.owned) == 2, first, second)
    assert second.owned[first.revoked[0]].end == 1, "its scan finds them"
    await leave(first, second)


async def test_positions_beside_work_are_told_before_partitions_move(open_log: OpenLog) -> None:
    """A new owner reads no record again, neither after a rebalance nor after a consumer that left."""
    log, first = await alone(open_log())
    for offset in (1, 2):
        for partition in range(PARTITIONS):
            key = keys_of_partition(partition, PARTITIONS, 1)[0]
            await first.consumer.commit(CommitBatch([event(f"e-{partition}-{offset}", key=key)], {partition: offset}))
    second = await seated(log, "b")
    await until(lambda: len(second.owned) == 2, first, second)
    assert [assigned.committed for assigned in second.owned.values()] == [2, 2]
    kept = next(iter(first.owned))
    await first.consumer.commit(CommitBatch([event("last", key=keys_of_partition(kept, PARTITIONS, 1)[0])], {kept: 3}))
    await leave(first, second)
    assert (await log.committed(TOPIC, "payment"))[kept] == 3


async def test_a_silent_member_is_replaced(open_log: OpenLog) -> None:
    """A later commit of it moves no offset, and its next poll returns the partitions that it lost."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    zombie = await seated(log, "a")
    await until(lambda: len(zombie.owned) == PARTITIONS, zombie)
    successor = await seated(log, "b")
    await until(lambda: len(successor.owned) == PARTITIONS, successor)
    await successor.consumer.commit(CommitBatch(done={0: 0}))
    with pytest.raises(LeaseLostError):
        await zombie.consumer.commit(CommitBatch(done={0: 7, 1: 7}))
    assert await log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 0, 3: 0}
    while len(zombie.revoked) < PARTITIONS:
        await zombie.look()
    assert sorted(zombie.revoked) == [0, 1, 2, 3]
    await leave(zombie, successor)


async def test_a_static_member_that_comes_back_takes_its_seat_at_once(open_log: OpenLog) -> None:
    """The older one of its instance leaves with an error; a restart within the session moves nothing."""
    log, again = open_log("pod-1"), open_log("pod-1")
    await log.create(TOPIC, PARTITIONS)
    older = await seated(log, "a")
    await until(lambda: len(older.owned) == PARTITIONS, older)
    newer = await seated(again, "a")
    await until(lambda: len(newer.owned) == PARTITIONS, newer)
    with pytest.raises(LeaseLostError):
        await older.consumer.commit(CommitBatch(done={0: 1}))
    await until(lambda: sorted(older.revoked) == [0, 1, 2, 3], older)
    with pytest.raises(LeaseLostError, match="joined under this name"):
        await until(lambda: False, older)
    await newer.consumer.commit(CommitBatch(done={0: 0}))
    await leave(older, newer)


async def test_a_long_pause_fetches_no_more_and_skips_nothing(open_log: OpenLog) -> None:
    """Thousands wait for a paused partition; all come in order when it goes on."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    membership = await seated(log, "a")
    await until(lambda: len(membership.owned) == PARTITIONS, membership)
    membership.consumer.pause([0])
    kept, other = (keys_of_partition(partition, PARTITIONS, 1)[0] for partition in (0, 1))
    for batch in range(6):
        await log.append(TOPIC, [event(f"e-{batch}-{n}", key=kept) for n in range(1_000)])
        await log.append(TOPIC, [event(f"other-{batch}", key=other)])
        await until(lambda batch=batch: len(membership.records) == batch + 1, membership)
    assert {record.partition for record in membership.records} == {1}
    membership.records.clear()
    membership.consumer.resume([0])
    await until(lambda: len(membership.records) == 6_000, membership)
    assert [record.offset for record in membership.records] == list(range(6_000))
    await leave(membership)


async def test_how_far_the_tracker_is_stands_under_the_name_of_its_faust_application(open_log: OpenLog) -> None:
    """A query for the tracker's group by the port's name returns the offsets that its workers have committed."""
    log = open_log()
    await log.create(TOPIC, 1)
    worker = Membership(await log.consumer(TOPIC, TRACKER_GROUP, "worker"))
    await until(lambda: 0 in worker.owned, worker)
    await log.append(TOPIC, [event("e-1")])
    await worker.consumer.commit(CommitBatch(done={0: 1}))
    assert await log.committed(TOPIC, TRACKER_GROUP) == await log.committed(TOPIC, tracker_app(TOPIC)) == {0: 1}
    await leave(worker)


class HungClient(Client):
    """A client that delivers nothing; its heartbeats go on."""

    def poll(self, timeout: float = -1) -> None:
        """Serve callbacks, and drop the message."""
        super().poll(timeout)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Return no messages."""
        super().consume(num_messages, timeout)
        return []


async def test_a_member_to_which_nothing_comes_is_told_so(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client reports no error, and the log has records. A host that pauses its own consumer gets no report."""
    reports = DependencyReports(VirtualClock())
    log = open_log(still_s=0.5, dependencies=reports)
    await log.create(TOPIC, 1)
    with monkeypatch.context() as patch:
        patch.setattr(thread, "Consumer", HungClient)
        hung = await seated(log, "a")
    await until(lambda: bool(hung.owned), hung)
    hung.consumer.pause([0])
    await log.append(TOPIC, [event("e-1")])
    for _ in range(10):
        await hung.look()
    hung.consumer.resume([0])
    with pytest.raises(LeaseLostError, match="records stand at offset 0 of partition 0, and none has come"):
        await until(lambda: bool(hung.records), hung)
    (report,) = reports.all()
    assert report.name == "consumer of order for payment"
    assert "records stand at offset 0 of partition 0" in report.cause
    assert "every broker answers" in report.remedy
    await leave(hung)
    successor = await seated(log, "b")
    await until(lambda: bool(successor.records), successor)
    assert [record.event.id for record in successor.records] == ["e-1"]
    await until(lambda: not reports.all(), successor)
    await leave(successor)
