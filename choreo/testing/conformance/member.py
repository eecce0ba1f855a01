"""The suite of the log port's groups: polling, sharing, leases, commits."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import asyncio

import pytest

from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope
from choreo.ports.inbox import Begin, Outcome, RunMark
from choreo.ports.log import Gained, Member, Poll, Work
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC, Home, event, keys_of_partition

PARTITIONS = 4


def ids(poll: Poll) -> list[str]:
    """The ids of what a poll brought."""
    return [record.event.id for record in poll.records]


def owned_after(poll: Poll) -> list[int]:
    """The partitions a poll gave."""
    return [gained.partition for gained in poll.gained]


async def joined(home: Home, name: str, group: str = "payment") -> Member:
    """A member that has polled once."""
    await home.log.create(TOPIC, PARTITIONS)
    member = await home.log.member(TOPIC, group, name)
    await member.poll(10, 0)
    return member


class PollSuite:
    """What a member's poll brings."""

    async def test_the_first_poll_gives_every_partition_with_where_to_begin(self, home: Home) -> None:
        """`committed` of the group and the end at that moment."""
        await home.log.create(TOPIC, 1)
        await home.log.append(TOPIC, [event("e-1"), event("e-2"), event("e-3")])
        first = await home.log.member(TOPIC, "payment", "a")
        assert (await first.poll(10, 0)).gained == [Gained(0, 0, 3)]
        await first.commit(Work(done={0: 2}))
        await first.close()
        second = await home.log.member(TOPIC, "payment", "b")
        poll = await second.poll(10, 0)
        assert poll.gained == [Gained(0, 2, 3)]
        assert ids(poll) == ["e-3"]
        assert poll.read == {0: 3}

    async def test_groups_do_not_know_each_other(self, home: Home) -> None:
        """Each reads everything, and commits for itself."""
        payment, shipping = await joined(home, "a"), await joined(home, "a", "shipping")
        await home.log.append(TOPIC, [event("e-1", key=keys_of_partition(2, PARTITIONS, 1)[0])])
        assert ids(await payment.poll(10, 0)) == ids(await shipping.poll(10, 0)) == ["e-1"]
        await payment.commit(Work(done={2: 1}))
        assert await home.log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 1, 3: 0}
        assert await home.log.committed(TOPIC, "shipping") == {0: 0, 1: 0, 2: 0, 3: 0}
        assert await home.log.committed(TOPIC, "nobody") == {0: 0, 1: 0, 2: 0, 3: 0}

    async def test_a_poll_takes_from_every_partition(self, home: Home) -> None:
        """A full partition does not keep the others waiting; in each, order is kept, and nothing is left out."""
        member = await joined(home, "a")
        await home.log.append(TOPIC, [event(f"big-{n}", key=keys_of_partition(0, PARTITIONS, 1)[0]) for n in range(40)])
        small = [key for partition in (1, 2, 3) for key in keys_of_partition(partition, PARTITIONS, 1)]
        await home.log.append(TOPIC, [event(f"small-{key}", key=key) for key in small])
        poll = await member.poll(12, 0)
        assert {record.partition for record in poll.records} == {0, 1, 2, 3}
        assert len(poll.records) == 12
        assert poll.full
        rest = await member.poll(100, 0)
        assert not rest.full
        big = [id_ for id_ in ids(poll) + ids(rest) if id_.startswith("big")]
        assert big == [f"big-{n}" for n in range(40)]

    async def test_a_waiting_poll_is_woken_by_a_commit(self, home: Home) -> None:
        """Without any time passing."""
        member = await joined(home, "a")
        waiting = asyncio.ensure_future(member.poll(10, 60))
        await asyncio.sleep(0)
        await home.log.append(TOPIC, [event("e-1")])
        assert ids(await waiting) == ["e-1"]

    async def test_a_poll_with_nothing_to_bring_ends_at_its_time(self, home: Home, clock: VirtualClock) -> None:
        """With an empty answer."""
        member = await joined(home, "a")
        waiting = asyncio.ensure_future(member.poll(10, 1))
        await clock.advance(0.9)
        assert not waiting.done()
        await clock.advance(0.2)
        assert await waiting == Poll([], [], [], {})

    async def test_types_of_no_interest_move_read_only(self, home: Home, clock: VirtualClock) -> None:
        """A member asks for its steps' triggers; the rest costs it no decoding, and is done."""
        await home.log.create(TOPIC, 1)
        await home.log.append(TOPIC, [event("e-1"), event("e-2", type_="StockReserved"), event("e-3")])
        member = await home.log.member(TOPIC, "payment", "a", frozenset({"StockReserved"}))
        poll = await member.poll(10, 60)
        assert ids(poll) == ["e-2"]
        assert poll.read == {0: 3}
        waiting = asyncio.ensure_future(member.poll(10, 1))
        await clock.advance(0.1)
        await home.log.append(TOPIC, [event("e-4")])
        await clock.advance(1)
        assert (await waiting).read == {0: 4}

    async def test_the_end_a_partition_had_when_gained_is_news(self, home: Home) -> None:
        """A poll returns when it has been reached, even with nothing of interest."""
        await home.log.create(TOPIC, 1)
        await home.log.append(TOPIC, [event(f"e-{n}") for n in range(30)])
        member = await home.log.member(TOPIC, "payment", "a", frozenset({"Nothing"}))
        reads = [(await member.poll(10, 60)).read.get(0)]
        while reads[-1] != 30:
            reads.append((await member.poll(10, 60)).read.get(0))

    async def test_a_paused_partition_brings_nothing_until_resumed(self, home: Home) -> None:
        """Others go on; nothing is skipped."""
        member = await joined(home, "a")
        keys = [keys_of_partition(partition, PARTITIONS, 1)[0] for partition in (0, 1)]
        member.pause([0])
        await home.log.append(TOPIC, [event("e-0", key=keys[0]), event("e-1", key=keys[1])])
        assert ids(await member.poll(10, 0)) == ["e-1"]
        assert ids(await member.poll(10, 0)) == []
        member.resume([0])
        assert ids(await member.poll(10, 0)) == ["e-0"]

    async def test_a_poll_that_waits_hears_of_a_resume(self, home: Home) -> None:
        """What lay in the partition meanwhile comes at once, without news to wake it."""
        await home.log.create(TOPIC, 1)
        member = await home.log.member(TOPIC, "payment", "a")
        await member.poll(10, 0)
        member.pause([0])
        await home.log.append(TOPIC, [event("e-1")])
        waiting = asyncio.ensure_future(member.poll(10, LEASE_S * 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        member.resume([0])
        assert ids(await waiting) == ["e-1"]


class SharingSuite:
    """Who owns what."""

    async def test_a_newcomer_gets_its_share_when_the_others_have_given_it_up(self, home: Home) -> None:
        """A partition changes hands only at a poll of its owner, and is never with two."""
        first = await joined(home, "a")
        second = await home.log.member(TOPIC, "payment", "b")
        assert owned_after(await second.poll(10, 0)) == []
        lost = (await first.poll(10, 0)).lost
        assert len(lost) == 2
        assert sorted(owned_after(await second.poll(10, 0))) == sorted(lost)
        assert (await first.poll(10, 0)).lost == []

    @pytest.mark.parametrize("members", [1, 2, 3, 4, 6])
    async def test_shares_differ_by_one_at_most(self, home: Home, members: int) -> None:
        """And every partition has one owner."""
        await home.log.create(TOPIC, PARTITIONS)
        group = [await home.log.member(TOPIC, "payment", f"m-{n}") for n in range(members)]
        owned: list[set[int]] = [set() for _ in group]
        for _ in range(members + 2):
            for member, mine in zip(group, owned, strict=True):
                poll = await member.poll(10, 0)
                mine.difference_update(poll.lost)
                mine.update(owned_after(poll))
        assert sorted(partition for mine in owned for partition in mine) == list(range(PARTITIONS))
        assert max(map(len, owned)) - min(map(len, owned)) <= 1

    async def test_a_member_that_leaves_frees_its_partitions_at_once(self, home: Home) -> None:
        """No lease is waited for."""
        first = await joined(home, "a")
        second = await home.log.member(TOPIC, "payment", "b")
        await first.close()
        assert owned_after(await second.poll(10, 0)) == [0, 1, 2, 3]

    async def test_a_silent_member_is_replaced_after_its_lease(self, home: Home, clock: VirtualClock) -> None:
        """Not before; and what it commits then is refused whole."""
        zombie = await joined(home, "a")
        heir = await home.log.member(TOPIC, "payment", "b")
        await clock.advance(LEASE_S * 0.9)
        assert owned_after(await heir.poll(10, 0)) == []
        await clock.advance(LEASE_S)
        assert owned_after(await heir.poll(10, 0)) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError, match="belong to another member"):
            await zombie.commit(Work(outputs=[event("late")], done={0: 1, 1: 1}))
        assert [await home.log.end(TOPIC, partition) for partition in range(PARTITIONS)] == [0, 0, 0, 0]
        assert await home.log.committed(TOPIC, "payment") == {0: 0, 1: 0, 2: 0, 3: 0}
        assert sorted((await zombie.poll(10, 0)).lost) == [0, 1, 2, 3]

    async def test_a_waiting_member_keeps_its_lease(self, home: Home, clock: VirtualClock) -> None:
        """A long poll is also the heartbeat."""
        first = await joined(home, "a")
        waiting = asyncio.ensure_future(first.poll(10, LEASE_S * 10))
        await clock.advance(LEASE_S * 5)
        second = await home.log.member(TOPIC, "payment", "b")
        gained = owned_after(await second.poll(10, 0))
        assert len(lost := (await waiting).lost) == 2, "its share is given up, the rest is kept"
        gained += owned_after(await second.poll(10, 0))
        assert sorted(gained) == sorted(lost)

    async def test_a_lease_nobody_took_is_still_good(self, home: Home, clock: VirtualClock) -> None:
        """One slow commit costs nobody a partition."""
        member = await joined(home, "a")
        await clock.advance(LEASE_S * 5)
        await member.commit(Work(done={0: 0, 1: 0}))
        assert (await member.poll(10, 0)).lost == []

    async def test_a_process_that_comes_back_under_its_name_need_not_wait(self, home: Home) -> None:
        """It takes over at once; the older one of that name is out, and told so."""
        older = await joined(home, "a")
        newer = await home.log.member(TOPIC, "payment", "a")
        assert owned_after(await newer.poll(10, 0)) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError):
            await older.commit(Work(done={0: 1}))
        assert sorted((await older.poll(10, 0)).lost) == [0, 1, 2, 3]
        with pytest.raises(LeaseLostError, match="joined under this name"):
            await older.poll(10, 0)
        await older.close()
        await newer.commit(Work(done={0: 0}))

    async def test_what_was_given_up_is_refused(self, home: Home) -> None:
        """After a poll has reported it lost."""
        first = await joined(home, "a")
        second = await home.log.member(TOPIC, "payment", "b")
        await second.poll(10, 0)
        lost = (await first.poll(10, 0)).lost
        with pytest.raises(LeaseLostError):
            await first.commit(Work(done={lost[0]: 1}))


class CommitSuite:
    """One commit, everything in it."""

    async def test_everything_of_a_commit_is_true_at_once(self, home: Home) -> None:
        """Marks, outcomes, letters, outputs, states, views, done."""
        await home.log.create(TOPIC, 1)
        member = await home.log.member(TOPIC, "payment", "a")
        await member.poll(10, 0)
        await home.inbox("payment").begin([Begin("t-1", "charge", "r-1", "r-1")])
        outcome = Outcome("t-1", "charge", "r-1", [event("o-1", type_="PaymentCharged")], success=True)
        state = StateRow(TOPIC, 0, "o-1", 0, b"state", due_ms=5)
        view = InstanceView(TOPIC, "o-1", "r-1", "running", "", 1, 1, 0, 0)
        marks = {"r-1": RunMark(turned=True)}
        work = Work([event("x-1")], {0: 1}, [outcome], states=[state], views=[view], marks=marks)
        await member.commit(work)
        assert [r.event.id for r in await home.log.read(TOPIC, 0, 0, 10)] == ["o-1", "x-1"]
        while (await member.poll(10, 0)).records:
            pass  # its own outputs; a poll that brings nothing leaves no position untold
        assert await home.log.committed(TOPIC, "payment") == {0: 1}
        assert await home.states.load(TOPIC, 0, ["o-1"]) == {"o-1": state}
        assert await home.read_model.instance(TOPIC, "o-1") == view
        assert await home.inbox("payment").recorded([("t-1", "charge")]) == {("t-1", "charge"): (outcome.events[0],)}
        assert await home.inbox("payment").marks(["r-1"]) == marks

    async def test_an_outcome_that_stands_is_published_again_as_it_was_recorded(self, home: Home) -> None:
        """A second, different failure is not; a success is, whatever stands."""
        member = await joined(home, "a")

        async def published(type_: str, *, success: bool, reason: str = "") -> list[Envelope]:
            before = [await home.log.end(TOPIC, partition) for partition in range(PARTITIONS)]
            told = Envelope("o-1", type_, "o-1", TOPIC, reason=reason)
            await member.commit(Work(outcomes=[Outcome("t-1", "charge", "r-1", [told], success)]))
            new = [await home.log.read(TOPIC, p, before[p], 10) for p in range(PARTITIONS)]
            return [record.event for records in new for record in records]

        first = await published("PaymentDeclined", success=False, reason="first")
        assert [e.reason for e in first] == ["first"]
        assert await published("PaymentDeclined", success=False, reason="second") == first
        assert await published("choreo.StepFailed", success=False) == []
        assert [e.type for e in await published("PaymentCharged", success=True)] == ["PaymentCharged"]

    async def test_commits_of_one_turn_do_not_fail_each_other(self, home: Home, clock: VirtualClock) -> None:
        """The zombie's is refused, the others' stand."""
        zombie = await joined(home, "a")
        await clock.advance(LEASE_S * 2)
        heir = await joined(home, "b")
        other = await joined(home, "c", "shipping")
        results = await asyncio.gather(
            other.commit(Work([event("e-1")], {0: 1})),
            zombie.commit(Work([event("e-2")], {0: 1})),
            heir.commit(Work([event("e-3")], {0: 1})),
            home.log.append(TOPIC, [event("e-4")]),
            return_exceptions=True,
        )
        assert [isinstance(result, LeaseLostError) for result in results] == [False, True, False, False]
        written = [r.event.id for p in range(PARTITIONS) for r in await home.log.read(TOPIC, p, 0, 10)]
        assert written == ["e-1", "e-3", "e-4"]
