"""Consumer groups over time: rates, the time until a lag is gone, changes of members. Time is the virtual clock's."""

from __future__ import annotations

import pytest

from choreo.app.query.group_memory import CHANGES_KEPT, GROUPS_KEPT, GroupMemory, Progress, SeenGroup
from choreo.app.query.groups import Group, GroupPartition
from choreo.core.errors import NotFoundError
from choreo.core.partition import partition_of
from choreo.ports.log import CommitBatch, GroupMember
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import keys_of_partition
from tests.app.harness import PARTITIONS, OrderPlaced, Shop

PARTITION = partition_of("o-1", PARTITIONS)
ENDS = {0: 10}


async def looked(shop: Shop, name: str = "stock") -> tuple[Group, GroupPartition]:
    """Return a group, and its numbers in the partition of the test."""
    group = await shop.queries.group("order", name)
    return group, group.partitions[PARTITION]


async def test_the_time_until_a_lag_is_gone() -> None:
    """A service finishes 5 records a second while 2 come: 60 records take 20 s, within 20 %, as it then turns out."""
    shop = await Shop().open()
    clock = shop.clock
    assert isinstance(clock, VirtualClock)
    keys = iter(keys_of_partition(PARTITION, PARTITIONS, 400))

    async def come(count: int) -> None:
        for _ in range(count):
            await shop.publisher.publish("order", OrderPlaced(order_id=next(keys)))

    member = await shop.backend.log.consumer("order", "stock", "stock-pod")
    offset = 0
    await member.poll(1_000, 0)

    async def work(seconds: int) -> None:
        nonlocal offset
        for _ in range(seconds):
            await clock.advance(1)
            await come(2)
            offset = min(offset + 5, await shop.backend.log.end("order", PARTITION))
            await member.commit(CommitBatch(done={PARTITION: offset}))

    await come(90)
    _, now = await looked(shop)
    assert (now.lag, now.rate, now.eta_s) == (90, None, None)
    await work(10)
    group, now = await looked(shop)
    assert (now.owner, now.lag) == ("stock-pod", 60)
    assert (now.rate, now.arrivals) == (5.0, 2.0)
    assert now.progress_ms == clock.now_ms()
    assert now.eta_s is not None
    predicted_s, elapsed_s = now.eta_s, 0
    while (await looked(shop))[1].lag:
        await work(1)
        elapsed_s += 1
    assert elapsed_s == pytest.approx(predicted_s, rel=0.2)
    assert (await looked(shop))[1].eta_s == 0
    assert group.eta_s == pytest.approx(predicted_s)


async def test_a_lag_that_grows_has_no_end() -> None:
    """Nothing is promised where more comes than is finished, or nothing is known."""
    assert Progress(0, 2.0, 2.0).eta_s(5) is None
    assert Progress().eta_s(5) is None
    assert Progress().eta_s(0) == 0


async def test_owners_and_unowned_partitions() -> None:
    """Each partition names its owner; without a member there is none, and the offsets are there all the same."""
    shop = await Shop().open()
    await shop.start("o-1")
    group, place = await looked(shop)
    assert (group.members, group.unowned, place.owner, place.lag) == ([], [0, 1, 2, 3], "", 1)
    await (await shop.backend.log.consumer("order", "stock", "stock-pod")).poll(10, 0)
    group, place = await looked(shop)
    assert (group.unowned, place.owner, place.client) == ([], "stock-pod", "stock-pod")
    assert [change.joined for change in group.changes] == [("stock-pod",)]
    assert group.changed == 1


async def test_an_unknown_group_is_an_error() -> None:
    """The remedy names those that there are."""
    shop = await Shop().open()
    with pytest.raises(NotFoundError, match="there is no group 'stok'") as refused:
        await shop.queries.group("order", "stok")
    assert "Did you mean stock?" in refused.value.remedy
    assert [group.name for group in await shop.queries.groups("order")] == ["tracker", "desk", "payment", "stock"]


def test_changes_are_seen_between_observations() -> None:
    """A member that comes, one that leaves, a partition that moves; the first observation is no change."""
    seen = SeenGroup(0)
    seen.add(0, [GroupMember("a", "", (0,), "1", "a")], {}, ENDS)
    assert not seen.changes
    seen.add(1_000, [GroupMember("a", "", (), "1", "a"), GroupMember("b", "", (), "2", "b")], {}, ENDS)
    seen.add(2_000, [GroupMember("b", "", (0,), "2", "b")], {}, ENDS)
    assert [(change.joined, change.left, change.moved) for change in seen.changes] == [
        (("b",), (), ()),
        ((), ("a",), (0,)),
    ]
    assert len(seen.recent(2_000)) == 2
    assert not seen.recent(400_000)


def test_two_processes_of_one_instance_are_told_from_a_restart() -> None:
    """Three takeovers in five minutes; a restart is one, and so is a member that was away between two looks."""
    seen = SeenGroup(0)
    for number in range(3):
        seen.add(number * 1_000, [GroupMember("pod-1", "", (0,), f"id-{number}", "payment-7")], {}, ENDS)
    assert seen.contested(3_000) == {}
    seen.add(3_000, [], {}, ENDS)
    seen.add(4_000, [GroupMember("pod-1", "", (0,), "id-8", "payment-7")], {}, ENDS)
    assert seen.contested(4_000) == {}
    seen.add(5_000, [GroupMember("pod-1", "", (0,), "id-9", "payment-7")], {}, ENDS)
    assert seen.contested(5_000) == {"pod-1": 3}
    assert seen.contested(302_500) == {}


def test_a_dynamic_member_that_joins_again_competes_with_nobody() -> None:
    """Its name is its process's own."""
    seen = SeenGroup(0)
    for number in range(9):
        seen.add(number * 1_000, [GroupMember("payment-7", "", (0,), f"id-{number}", "payment-7")], {}, ENDS)
    assert seen.contested(9_000) == {}


def test_many_questions_a_second_still_make_a_rate() -> None:
    """Samples that come faster than they are kept are joined; an offset that is set back begins anew."""
    seen = SeenGroup(0)
    for number in range(1_000):
        seen.add(number * 50, [], {0: number}, {0: 2_000})
    assert seen.progress(0).rate == pytest.approx(20, rel=0.01)
    seen.add(60_000, [], {0: 5}, {0: 2_000})
    assert seen.progress(0).rate is None
    assert seen.progress(1) == Progress()


def test_the_memory_is_bounded() -> None:
    """Changes, names and groups are forgotten, the oldest first."""
    memory = GroupMemory()
    seen = memory.seen("order", "stock", 0)
    for number in range(3 * CHANGES_KEPT):
        seen.add(number, [GroupMember(f"m-{number}", "", (0,), str(number), "")], {0: number}, ENDS)
    assert len(seen.changes) == CHANGES_KEPT
    assert seen.changed == 3 * CHANGES_KEPT - 1
    for number in range(GROUPS_KEPT):
        memory.seen("order", f"g-{number}", 0)
    assert memory.seen("order", "stock", 5) is not seen
