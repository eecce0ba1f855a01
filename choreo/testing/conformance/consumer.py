"""The suite of the log port's groups: polling, sharing, leases, commits."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import asyncio

import pytest

from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope
from choreo.ports.inbox import AttemptRequest, Outcome, RunMark
from choreo.ports.log import Assigned, CommitBatch, Consumer, Poll
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC, Backend, event, keys_of_partition

PARTITIONS = 4


def ids(poll: Poll) -> list[str]:
    """Return the ids of the events of a poll."""
    return [record.event.id for record in poll.records]


def owned_after(poll: Poll) -> list[int]:
    """Return the partitions that a poll assigned."""
    return [assigned.partition for assigned in poll.assigned]


async def joined(backend: Backend, name: str, group: str = "payment") -> Consumer:
    """Return a consumer that has polled once."""
    await backend.log.create(TOPIC, PARTITIONS)
    consumer = await backend.log.consumer(TOPIC, group, name)
    await consumer.poll(10, 0)
    return consumer


class PollSuite:
    """The results of a consumer's poll."""

    async def test_the_first_poll_assigns_every_partition_with_its_offsets(self, backend: Backend) -> None:
        """Return the group's `committed` offset and the end at that moment."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event("e-1"), event("e-2"), event("e-3")])
        first = await backend.log.consumer(TOPIC, "payment", "a")
        assert (await first.poll(10, 0)).assigned == [Assigned(0, 0, 3)]
        await first.commit(CommitBatch(done={0: 2}))
        await first.close()
        second = await backend.log.consumer(TOPIC, "payment", "b")
        poll = await second.poll(10, 0)
        assert poll.assigned == [Assigned(0, 2, 3)]
        assert ids(poll) == ["e-3"]
        assert poll.read == {0: 3}

    async def test_groups_do_not_know_each_other(self, backend: Backend) -> None:
        """Let each group read everything, and commit for itself."""
        payment, shipping = await joined(backend, "a"), await joined(backend, "a", "shipping")
        await backend.log.append(TOPIC, [event("e-1", key=keys_of_partition(2, PARTITIONS, 1)[0])])
        assert ids(await payment.poll(10, 0)) == ids(await shipping.poll(10, 0)) == ["e-1"]
        await payment.commit(CommitBatch(done={2: 1}))
        assert await backend.log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 1, 3: 0}
        assert await backend.log.committed(TOPIC, "shipping") == {0: 0, 1: 0, 2: 0, 3: 0}
        assert await backend.log.committed(TOPIC, "nobody") == {0: 0, 1: 0, 2: 0, 3: 0}

    async def test_a_poll_takes_from_every_partition(self, backend: Backend) -> None:
        """Read on from the others beside a full partition; in each, order is kept and nothing is left out."""
        consumer = await joined(backend, "a")
        await backend.log.append(
            TOPIC, [event(f"big-{n}", key=keys_of_partition(0, PARTITIONS, 1)[0]) for n in range(40)]
        )
        small = [key for partition in (1, 2, 3) for key in keys_of_partition(partition, PARTITIONS, 1)]
        await backend.log.append(TOPIC, [event(f"small-{key}", key=key) for key in small])
        poll = await consumer.poll(12, 0)
        assert {record.partition for record in poll.records} == {0, 1, 2, 3}
        assert len(poll.records) == 12
        assert poll.full
        rest = await consumer.poll(100, 0)
        assert not rest.full
        big = [id_ for id_ in ids(poll) + ids(rest) if id_.startswith("big")]
        assert big == [f"big-{n}" for n in range(40)]

    async def test_a_waiting_poll_is_woken_by_a_commit(self, backend: Backend) -> None:
        """Wake the poll without any time passing."""
        consumer = await joined(backend, "a")
        waiting = asyncio.ensure_future(consumer.poll(10, 60))
        await asyncio.sleep(0)
        await backend.log.append(TOPIC, [event("e-1")])
        assert ids(await waiting) == ["e-1"]

    async def test_a_poll_without_records_ends_at_its_timeout(self, backend: Backend, clock: VirtualClock) -> None:
        """Return an empty answer at the timeout."""
        consumer = await joined(backend, "a")
        waiting = asyncio.ensure_future(consumer.poll(10, 1))
        await clock.advance(0.9)
        assert not waiting.done()
        await clock.advance(0.2)
        assert await waiting == Poll([], [], [], {})

    async def test_types_not_asked_for_only_move_the_position(self, backend: Backend, clock: VirtualClock) -> None:
        """Skip the types that a consumer does not ask for, without decoding them, and count them as read."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event("e-1"), event("e-2", type_="StockReserved"), event("e-3")])
        consumer = await backend.log.consumer(TOPIC, "payment", "a", frozenset({"StockReserved"}))
        poll = await consumer.poll(10, 60)
        assert ids(poll) == ["e-2"]
        assert poll.read == {0: 3}
        waiting = asyncio.ensure_future(consumer.poll(10, 1))
        await clock.advance(0.1)
        await backend.log.append(TOPIC, [event("e-4")])
        await clock.advance(1)
        assert (await waiting).read == {0: 4}

    async def test_a_poll_returns_at_the_end_of_the_assignment(self, backend: Backend) -> None:
        """Return from a poll when that end is reached, even without a record of its types."""
        await backend.log.create(TOPIC, 1)
        await backend.log.append(TOPIC, [event(f"e-{n}") for n in range(30)])
        consumer = await backend.log.consumer(TOPIC, "payment", "a", frozenset({"Nothing"}))
        reads = [(await consumer.poll(10, 60)).read.get(0)]
        while reads[-1] != 30:
            reads.append((await consumer.poll(10, 60)).read.get(0))

    async def test_a_paused_partition_returns_nothing_until_resumed(self, backend: Backend) -> None:
        """Read on from the others; skip nothing."""
        consumer = await joined(backend, "a")
        keys = [keys_of_partition(partition, PARTITIONS, 1)[0] for partition in (0, 1)]
        consumer.pause([0])
        await backend.log.append(TOPIC, [event("e-0", key=keys[0]), event("e-1", key=keys[1])])
        assert ids(await consumer.poll(10, 0)) == ["e-1"]
        assert ids(await consumer.poll(10, 0)) == []
        consumer.resume([0])
        assert ids(await consumer.poll(10, 0)) == ["e-0"]

    async def test_a_resume_wakes_a_waiting_poll(self, backend: Backend) -> None:
        """Return the partition's earlier records at once, without a new record to wake the poll."""
        await backend.log.create(TOPIC, 1)
        consumer = await backend.log.consumer(TOPIC, "payment", "a")
        await consumer.poll(10, 0)
        consumer.pause([0])
        await backend.log.append(TOPIC, [event("e-1")])
        waiting = asyncio.ensure_future(consumer.poll(10, LEASE_S * 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        consumer.resume([0])
        assert ids(await waiting) == ["e-1"]


class SharingSuite:
    """The distribution of partitions over consumers."""

    async def test_a_new_consumer_gets_its_share_once_the_others_have_released_it(self, backend: Backend) -> None:
        """Move a partition only at a poll of its owner, and never give it to two consumers."""
        first = await joined(backend, "a")
        second = await backend.log.consumer(TOPIC, "payment", "b")
        assert owned_after(await second.poll(10, 0)) == []
        lost = (await first.poll(10, 0)).revoked
        assert len(lost) == 2
        assert sorted(owned_after(await second.poll(10, 0))) == sorted(lost)
        assert (await first.poll(10, 0)).revoked == []

    @pytest.mark.parametrize("consumers", [1, 2, 3, 4, 6])
    async def test_shares_differ_by_one_at_most(self, backend: Backend, consumers: int) -> None:
        """Give every partition one owner, too."""
        await backend.log.create(TOPIC, PARTITIONS)
        group = [await backend.log.consumer(TOPIC, "payment", f"m-{n}") for n in range(consumers)]
        owned: list[set[int]] = [set() for _ in group]
        for _ in range(consumers + 2):
            for consumer, mine in zip(group, owned, strict=True):
                poll = await consumer.poll(10, 0)
                mine.difference_update(poll.revoked)
                mine.update(owned_after(poll))
        assert sorted(partition for mine in owned for partition in mine) == list(range(PARTITIONS))
        assert max(map(len, owned)) - min(map(len, owned)) <= 1

    async def test_a_consumer_that_leaves_frees_its_partitions_at_once(self, backend: Backend) -> None:
        """Wait for no lease."""
        first = await joined(backend, "a")
        second = await backend.log.consumer(TOPIC, "payment", "b")
        await first.close()
        assert owned_after(await second.poll(10, 0)) == [0, 1, 2, 3]

    async def test_a_silent_consumer_is_replaced_after_its_lease(self, backend: Backend, clock: VirtualClock) -> None:
        """Wait for the lease, then refuse the old consumer's commit as a whole."""
        zombie = await joined(backend, "a")
        successor = await backend.log.consumer(TOPIC, "payment", "b")
        await clock.advance(LEASE_S * 0.9)
        assert owned_after(await successor.poll(10, 0)) == []
        await clock.advance(LEASE_S)
        assert owned_after(await successor.poll(10, 0)) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError, match="belong to another member"):
            await zombie.commit(CommitBatch(outputs=[event("late")], done={0: 1, 1: 1}))
        assert [await backend.log.end(TOPIC, partition) for partition in range(PARTITIONS)] == [0, 0, 0, 0]
        assert await backend.log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 0, 3: 0}
        assert sorted((await zombie.poll(10, 0)).revoked) == [0, 1, 2, 3]

    async def test_a_waiting_consumer_keeps_its_lease(self, backend: Backend, clock: VirtualClock) -> None:
        """Count a long poll as the heartbeat, too."""
        first = await joined(backend, "a")
        waiting = asyncio.ensure_future(first.poll(10, LEASE_S * 10))
        await clock.advance(LEASE_S * 5)
        second = await backend.log.consumer(TOPIC, "payment", "b")
        assigned = owned_after(await second.poll(10, 0))
        assert len(lost := (await waiting).revoked) == 2, "its share is given up, the rest is kept"
        assigned += owned_after(await second.poll(10, 0))
        assert sorted(assigned) == sorted(lost)

    async def test_an_expired_lease_without_a_successor_counts(self, backend: Backend, clock: VirtualClock) -> None:
        """Keep the partitions through one slow commit."""
        consumer = await joined(backend, "a")
        await clock.advance(LEASE_S * 5)
        await consumer.commit(CommitBatch(done={0: 0, 1: 0}))
        assert (await consumer.poll(10, 0)).revoked == []

    async def test_a_process_that_rejoins_under_its_name_need_not_wait(self, backend: Backend) -> None:
        """Take over at once; the older consumer of that name gets an error."""
        older = await joined(backend, "a")
        newer = await backend.log.consumer(TOPIC, "payment", "a")
        assert owned_after(await newer.poll(10, 0)) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError):
            await older.commit(CommitBatch(done={0: 1}))
        assert sorted((await older.poll(10, 0)).revoked) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError, match="joined under this name"):
            await older.poll(10, 0)
        await older.close()
        await newer.commit(CommitBatch(done={0: 0}))

    async def test_a_commit_of_a_revoked_partition_is_refused(self, backend: Backend) -> None:
        """Refuse a commit after a poll has reported the partition revoked."""
        first = await joined(backend, "a")
        second = await backend.log.consumer(TOPIC, "payment", "b")
        await second.poll(10, 0)
        lost = (await first.poll(10, 0)).revoked
        with pytest.raises(LeaseLostError):
            await first.commit(CommitBatch(done={lost[0]: 1}))


class CommitSuite:
    """One commit with all its parts."""

    async def test_a_commit_is_written_at_once(self, backend: Backend) -> None:
        """Write marks, outcomes, dead letters, outputs, states, views and offsets together."""
        await backend.log.create(TOPIC, 1)
        consumer = await backend.log.consumer(TOPIC, "payment", "a")
        await consumer.poll(10, 0)
        await backend.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1", "r-1")])
        outcome = Outcome("t-1", "charge", "r-1", [event("o-1", type_="PaymentCharged")], success=True)
        state = StateRow(TOPIC, 0, "o-1", 0, b"state", due_ms=5)
        view = InstanceView(TOPIC, "o-1", "r-1", "running", "", 1, 1, 0, 0)
        marks = {"r-1": RunMark(compensating=True)}
        work = CommitBatch([event("x-1")], {0: 1}, [outcome], states=[state], views=[view], marks=marks)
        await consumer.commit(work)
        assert [r.event.id for r in await backend.log.read(TOPIC, 0, 0, 10)] == ["o-1", "x-1"]
        while (await consumer.poll(10, 0)).records:
            pass  # its own outputs; after an empty poll every offset is committed
        assert await backend.log.committed(TOPIC, "payment") == {0: 1}
        assert await backend.states.load(TOPIC, 0, ["o-1"]) == {"o-1": state}
        assert await backend.read_model.instance(TOPIC, "o-1") == view
        assert await backend.inbox("payment").recorded([("t-1", "charge")]) == {("t-1", "charge"): (outcome.events[0],)}
        assert await backend.inbox("payment").marks(["r-1"]) == marks

    async def test_an_outcome_that_stands_is_published_again_as_it_was_recorded(self, backend: Backend) -> None:
        """Drop a second, different failure; publish a success after any outcome."""
        consumer = await joined(backend, "a")

        async def published(type_: str, *, success: bool, reason: str = "") -> list[Envelope]:
            before = [await backend.log.end(TOPIC, partition) for partition in range(PARTITIONS)]
            emitted = Envelope("o-1", type_, "o-1", TOPIC, reason=reason)
            await consumer.commit(CommitBatch(outcomes=[Outcome("t-1", "charge", "r-1", [emitted], success)]))
            new = [await backend.log.read(TOPIC, p, before[p], 10) for p in range(PARTITIONS)]
            return [record.event for records in new for record in records]

        first = await published("PaymentDeclined", success=False, reason="first")
        assert [e.reason for e in first] == ["first"]
        assert await published("PaymentDeclined", success=False, reason="second") == first
        assert await published("choreo.StepFailed", success=False) == []
        assert [e.type for e in await published("PaymentCharged", success=True)] == ["PaymentCharged"]

    async def test_commits_made_together_do_not_fail_each_other(self, backend: Backend, clock: VirtualClock) -> None:
        """Refuse the zombie's commit, and write the others."""
        zombie = await joined(backend, "a")
        await clock.advance(LEASE_S * 2)
        successor = await joined(backend, "b")
        other = await joined(backend, "c", "shipping")
        results = await asyncio.gather(
            other.commit(CommitBatch([event("e-1")], {0: 1})),
            zombie.commit(CommitBatch([event("e-2")], {0: 1})),
            successor.commit(CommitBatch([event("e-3")], {0: 1})),
            backend.log.append(TOPIC, [event("e-4")]),
            return_exceptions=True,
        )
        assert [isinstance(result, LeaseLostError) for result in results] == [False, True, False, False]
        written = [r.event.id for p in range(PARTITIONS) for r in await backend.log.read(TOPIC, p, 0, 10)]
        assert written == ["e-1", "e-3", "e-4"]
