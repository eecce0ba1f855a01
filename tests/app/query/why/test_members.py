"""`why`: members that come and go, and two incidents at once: the first in the list is the cause."""

from __future__ import annotations

import pytest

from choreo.app.dead_letter import dead_letter_of
from choreo.core.partition import partition_of
from choreo.ports.log import CommitBatch, GroupMember
from choreo.testing.conformance import keys_of_partition
from tests.app.harness import PARTITIONS, Shop, StockReserved
from tests.app.incident import KEY, SERVICES, Incident, behind


@pytest.fixture
async def incident() -> Incident:
    """Return a shop with a tracker and without members of its services."""
    return Incident(await Shop().open())


async def come_and_go(incident: Incident, times: int, every_s: float = 20) -> None:
    """Let processes of the first service join and leave without work, and be observed."""
    for number in range(times):
        pod = await incident.shop.backend.log.consumer("order", "stock", f"stock-{number}")
        await pod.poll(1_000, 0)
        await incident.shop.queries.groups("order")
        await incident.pass_time(every_s)
        await pod.close()
        await incident.shop.queries.groups("order")


async def test_members_that_come_and_go(incident: Incident) -> None:
    """Incident 1: each takes the partition, none finishes the step; the printed command lets others go on."""
    await incident.shop.start(KEY)
    await incident.join("payment", "desk")
    await come_and_go(incident, 3)
    answer = await incident.why()
    assert (answer.cause, answer.healthy) == ("rebalance-loop", False)
    assert answer.command.startswith(f"choreo pause {KEY} --flow order --reason ")
    changes = [each for each in answer.evidence if each.name == "change of stock"]
    assert len(changes) == 5
    assert all(each.at_ms for each in changes)
    await incident.shop.operator.pause("order", KEY, reason="members come and go")
    await incident.shop.track()
    assert (await incident.why()).cause == "paused"


async def test_a_rolling_restart_is_no_loop(incident: Incident) -> None:
    """Members are replaced one after the other, and the group makes progress between."""
    await incident.shop.start("o-2")
    await incident.join(*SERVICES, work=False)
    for number in range(3):
        await incident.members.pop("stock").close()
        await incident.shop.queries.groups("order")
        pod = await incident.shop.backend.log.consumer("order", "stock", f"stock-{number}")
        incident.members["stock"] = pod
        poll = await pod.poll(1_000, 0)
        key = f"k-{number}"
        await incident.shop.start(key)
        assert (await incident.why(key)).healthy
        await pod.commit(CommitBatch(done=poll.read))
        await incident.shop.outcome("stock.reserve", StockReserved(order_id=key))
        await incident.pass_time(5)
    await incident.shop.start(KEY)
    assert (await incident.why()).healthy


async def test_a_loop_that_has_ended_without_members_is_no_member(incident: Incident) -> None:
    """The group is at rest: the service has to be started."""
    await incident.shop.start(KEY)
    await incident.join("payment", "desk")
    await come_and_go(incident, 3)
    await incident.pass_time(200)
    assert (await incident.why()).cause == "no-member"


async def test_two_processes_share_an_instance(incident: Incident) -> None:
    """Incident 15: the instance is named, and the remedy is the setting."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    partition = partition_of(KEY, PARTITIONS)
    for number, client in enumerate(("stock-a", "stock-b", "stock-a", "stock-b")):
        member = GroupMember("pod-1", "10.0.0.7", (partition,), f"id-{number}", client)
        incident.shop.memory.seen("order", "stock", 0).add(incident.shop.clock.now_ms(), [member], {}, {partition: 1})
        await incident.pass_time(2)
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("contested", "choreo groups order --watch 10")
    assert "the instance pod-1 of service stock was taken over 3 times" in answer.sentence
    assert "CHOREO_KAFKA_GROUP_INSTANCE_ID" in answer.remedy


async def test_a_failed_undo_and_no_worker_for_the_next(incident: Incident) -> None:
    """Incidents 10 and 4 together: the person comes first, the missing process is also seen."""
    shop = incident.shop
    await shop.charged(KEY)
    await shop.operator.cancel("order", KEY)
    await shop.track()
    await shop.compensation_failed(KEY, "the bank is closed")
    await incident.join("payment", "desk")
    answer = await incident.why()
    assert answer.cause == "undo-failed"
    assert "the bank is closed" in answer.sentence
    assert [each.cause for each in answer.also] == ["no-member"]


async def test_a_dead_letter_and_a_hot_key(incident: Incident) -> None:
    """Incidents 2 and 14 together: more speed would not bring the record that was set aside."""
    partition = partition_of(KEY, PARTITIONS)
    others = [key for key in keys_of_partition(partition, PARTITIONS, 8) if key != KEY]
    await behind(incident, [others[0]] * 20 + others[1:4])
    trigger = (await incident.shop.backend.log.read("order", partition, 0, 1_000))[-1]
    assert trigger.event.key == KEY
    letter = dead_letter_of(trigger, "stock", "stock.reserve", "no schema 7", trigger.stamp_ms, made_by="stock")
    await incident.shop.backend.dead_letters.add([letter])
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("dead-letter", f"choreo dlq redrive {letter.id}")
    assert [each.cause for each in answer.also] == ["hot-key"]


async def test_a_late_timer_and_a_member_that_finishes_nothing(incident: Incident) -> None:
    """Incidents 8 and 5 together: the member comes first; the deadline that no fact says is also seen."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    await incident.pass_time(3_000)
    for service in (*SERVICES, "tracker"):
        await incident.join(service, work=False)  # the leases of the former ones have been long
    answer = await incident.why()
    assert answer.cause == "no-progress"
    assert [each.cause for each in answer.also] == ["timer-late"]
