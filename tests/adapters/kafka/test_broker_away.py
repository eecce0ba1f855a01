"""A broker that goes away and comes back, or was never there: nothing dies, doors are told, work goes on."""

import asyncio
from collections.abc import Iterator

import pytest

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.core.errors import LeaseLostError, StorageError
from choreo.ports.log import Member, Work
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import QUICK
from tests.support import required
from tests.support.kafka import Broker, free_ports

# Told soon, instead of after the 15 s that a broker's fail-over may take.
IMPATIENT = {"delivery.timeout.ms": "2000", "socket.timeout.ms": "2000"}


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of this test's own, to be stopped."""
    with required.broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


async def read_until(member: Member, id_: str) -> None:
    """Poll until this event is read."""
    seen: list[str] = []
    while id_ not in seen:
        seen += [record.event.id for record in (await member.poll(10, 0.2)).records]


async def at_work(log: KafkaLog) -> Member:
    """A member of the payment group on a new topic, which has read the event `before`."""
    await log.create(TOPIC, 1)
    member = await log.member(TOPIC, "payment", "a")
    await log.append(TOPIC, [event("before")])
    await read_until(member, "before")
    return member


async def test_a_broker_that_comes_back_finds_everybody_waiting(broker: Broker) -> None:
    """Whoever asks meanwhile is told so; the same log and the same member go on afterwards."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, IMPATIENT))
    member = await at_work(log)
    await asyncio.to_thread(broker.kill)
    with pytest.raises(StorageError, match=f"see that a broker answers at {broker.bootstrap}"):
        await log.append(TOPIC, [event("lost?")])
    with pytest.raises(StorageError):
        await member.commit(Work([event("unsaid")], {0: 1}))
    assert (await member.poll(10, 0.1)).records == []
    await asyncio.to_thread(broker.start)
    async with asyncio.timeout(60):
        await log.append(TOPIC, [event("after")])
        await read_until(member, "after")
        end = await log.end(TOPIC, 0)
        await member.commit(Work(done={0: end}))
    assert await log.committed(TOPIC, "payment") == {0: end}
    await member.close()
    await log.close()


async def test_a_producer_that_is_given_up_still_answers_who_is_handing_over(broker: Broker) -> None:
    """One call fails while a longer one waits for room in the same client: that one is told too, and nobody hangs."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {**IMPATIENT, "queue.buffering.max.messages": "1000"}))
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("before")])
    broker.freeze()
    long = asyncio.ensure_future(log.append(TOPIC, [event(f"long-{number}") for number in range(3_000)]))
    async with asyncio.timeout(60):
        with pytest.raises(StorageError):
            await log.append(TOPIC, [event("short")])
        assert not long.done(), "it was still handing over"
        with pytest.raises(StorageError):
            await long
        broker.thaw()
        await log.append(TOPIC, [event("after")])
    await log.close()


async def test_a_member_goes_on_while_nobody_answers_to_its_position(broker: Broker) -> None:
    """The client's own waiting commit has no bound then: it would poll no more. The group is told when it answers."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {}))
    member = await at_work(log)
    await member.commit(Work([event("said")], {0: 1}))
    broker.freeze()
    for _ in range(3):
        await member.poll(10, 0.2)
    waiting = asyncio.ensure_future(read_until(member, "after"))
    broker.thaw()
    async with asyncio.timeout(60):
        await log.append(TOPIC, [event("after")])
        await waiting
        await member.commit(Work([event("said too")], {0: 3}))
        while await log.committed(TOPIC, "payment") != {0: 3}:
            await member.poll(10, 0.2)
    await member.close()
    await log.close()


async def test_positions_alone_are_waited_for_within_a_bound(broker: Broker) -> None:
    """The client's call may never return: the host is told, leaves it there, and tells them through another client."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {}, request_s=1.0))
    member = await at_work(log)
    broker.freeze()
    async with asyncio.timeout(90):
        with pytest.raises(StorageError, match=r"positions of partitions \[0\] within 1 s"):
            await member.commit(Work(done={0: 1}))
        with pytest.raises(LeaseLostError, match="answers no more"):
            await member.poll(10, 0.1)
        await member.close()
        broker.thaw()
        other = await log.member(TOPIC, "payment", "b")
        await log.append(TOPIC, [event("after")])
        await read_until(other, "after")
        await other.commit(Work(done={0: 2}))
    assert await log.committed(TOPIC, "payment") == {0: 2}
    await other.close()
    await log.close()


async def test_a_member_that_finds_no_way_back_is_made_anew(broker: Broker) -> None:
    """Its client may hang for all we know: the host is told, and joins with another one."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {**IMPATIENT, **QUICK}, rejoin_s=8.0))
    member = await at_work(log)
    await asyncio.to_thread(broker.stop)
    async with asyncio.timeout(60):
        with pytest.raises(LeaseLostError, match="no way back"):
            await read_until(member, "never")
        await member.close()
        await asyncio.to_thread(broker.start)
        member = await log.member(TOPIC, "payment", "b")
        await log.append(TOPIC, [event("after")])
        await read_until(member, "after")
    await member.close()
    await log.close()


async def test_a_group_can_be_asked_about_while_its_coordinator_loads(broker: Broker) -> None:
    """As after every start of a broker; the client's own way of asking ends the process then."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, IMPATIENT))
    member = await at_work(log)
    await member.commit(Work(done={0: 1}))
    for _ in range(2):
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        groups = ["payment", *(f"nobody-{number}" for number in range(5))]
        found = await asyncio.gather(*(log.committed(TOPIC, group) for group in groups))
        assert found == [{0: 1}, *({0: 0} for _ in groups[1:])]
    await member.close()
    await log.close()


async def test_a_start_waits_for_a_broker_but_not_for_ever() -> None:
    """Then it says where it looked."""
    (port,) = free_ports(1)
    log = KafkaLog(KafkaOptions(f"localhost:{port}", {}, request_s=0.2, start_s=0.5))
    with pytest.raises(StorageError, match=f"localhost:{port}"):
        await log.create(TOPIC, 1)
    await log.close()
