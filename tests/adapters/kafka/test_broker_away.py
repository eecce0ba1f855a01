"""A broker that goes away and comes back, or was never there: no process dies, callers get an error, work goes on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.core.errors import LeaseLostError, StorageError
from choreo.ports.log import CommitBatch, Consumer
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import QUICK
from tests.support import required
from tests.support.kafka import Broker, free_ports
from tests.support.patience import PATIENCE_S

# The error comes soon, not after the 15 s that a broker's fail-over may take.
IMPATIENT = {"delivery.timeout.ms": "2000", "socket.timeout.ms": "2000"}


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """Yield a broker of this test's own, to be stopped.

    It has served a topic and a group: the first of each may take a new broker longer than an impatient client waits.
    """
    with required.broker(tmp_path_factory.mktemp("broker")) as broker:
        patient = KafkaLog(KafkaOptions(broker.bootstrap, prefix="first-"))
        consumer = await at_work(patient)
        await consumer.commit(CommitBatch(done={0: 1}))
        await consumer.close()
        await patient.close()
        yield broker


async def read_until(consumer: Consumer, id_: str) -> None:
    """Poll until this event is read."""
    seen: list[str] = []
    while id_ not in seen:
        seen += [record.event.id for record in (await consumer.poll(10, 0.2)).records]


async def joined(log: KafkaLog, name: str) -> Consumer:
    """Return a consumer as soon as the broker answers within the log's bound."""
    while True:
        try:
            return await log.consumer(TOPIC, "payment", name)
        except StorageError:
            continue


async def read_at_last(log: KafkaLog, consumer: Consumer, id_: str) -> Consumer:
    """Poll until this event is read; like a host, join again where the group takes the member too late."""
    while True:
        try:
            await read_until(consumer, id_)
        except LeaseLostError:
            await consumer.close()
            consumer = await joined(log, "again")
        else:
            return consumer


async def at_work(log: KafkaLog) -> Consumer:
    """Return a consumer of the payment group on a new topic, which has read the event `before`."""
    await log.create(TOPIC, 1)
    consumer = await joined(log, "a")
    await log.append(TOPIC, [event("before")])
    await read_until(consumer, "before")
    return consumer


async def test_a_broker_that_comes_back_finds_everybody_waiting(broker: Broker) -> None:
    """A call meanwhile fails with that reason; the same log and the same consumer go on afterwards."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, IMPATIENT))
    consumer = await at_work(log)
    await asyncio.to_thread(broker.kill)
    with pytest.raises(StorageError, match=f"check that a broker answers at {broker.bootstrap}"):
        await log.append(TOPIC, [event("lost?")])
    with pytest.raises(StorageError):
        await consumer.commit(CommitBatch([event("unsaid")], {0: 1}))
    assert (await consumer.poll(10, 0.1)).records == []
    await asyncio.to_thread(broker.start)
    async with asyncio.timeout(PATIENCE_S):
        await log.append(TOPIC, [event("after")])
        await read_until(consumer, "after")
        end = await log.end(TOPIC, 0)
        await consumer.commit(CommitBatch(done={0: end}))
    assert await log.committed(TOPIC, "payment") == {0: end}
    await consumer.close()
    await log.close()


async def test_a_producer_that_is_given_up_still_answers_who_is_handing_over(broker: Broker) -> None:
    """One call fails while a longer one waits for room in the same client: both get the error, and none hangs."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {**IMPATIENT, "queue.buffering.max.messages": "1000"}))
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("before")])
    broker.freeze()
    long = asyncio.ensure_future(log.append(TOPIC, [event(f"long-{number}") for number in range(3_000)]))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StorageError):
            await log.append(TOPIC, [event("short")])
        assert not long.done(), "it was still handing over"
        with pytest.raises(StorageError):
            await long
        broker.thaw()
        await log.append(TOPIC, [event("after")])
    await log.close()


async def test_a_member_goes_on_while_nobody_answers_to_its_position(broker: Broker) -> None:
    """A blocking commit has no bound then: it would poll no more. Offsets are committed once the group answers."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {}))
    consumer = await at_work(log)
    await consumer.commit(CommitBatch([event("said")], {0: 1}))
    broker.freeze()
    for _ in range(3):
        await consumer.poll(10, 0.2)
    waiting = asyncio.ensure_future(read_until(consumer, "after"))
    broker.thaw()
    async with asyncio.timeout(PATIENCE_S):
        await log.append(TOPIC, [event("after")])
        await waiting
        await consumer.commit(CommitBatch([event("said too")], {0: 3}))
        while await log.committed(TOPIC, "payment") != {0: 3}:
            await consumer.poll(10, 0.2)
    await consumer.close()
    await log.close()


async def test_positions_alone_are_waited_for_within_a_bound(broker: Broker) -> None:
    """The client's call may never return: the host gets an error, leaves the call, commits with another client."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {}, request_s=1.0))
    consumer = await at_work(log)
    broker.freeze()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StorageError, match=r"offsets of partitions \[0\] within 1 s"):
            await consumer.commit(CommitBatch(done={0: 1}))
        with pytest.raises(LeaseLostError, match="no longer answers"):
            await consumer.poll(10, 0.1)
        await consumer.close()
        broker.thaw()
        other = await joined(log, "b")
        await log.append(TOPIC, [event("after")])
        other = await read_at_last(log, other, "after")
        await other.commit(CommitBatch(done={0: 2}))
    assert await log.committed(TOPIC, "payment") == {0: 2}
    await other.close()
    await log.close()


async def test_a_member_that_finds_no_way_back_is_made_anew(broker: Broker) -> None:
    """Its client may hang: the host gets an error, and joins with another client."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {**IMPATIENT, **QUICK}, rejoin_s=8.0))
    consumer = await at_work(log)
    await asyncio.to_thread(broker.stop)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(LeaseLostError, match="cannot rejoin"):
            await read_until(consumer, "never")
        await consumer.close()
        await asyncio.to_thread(broker.start)
        consumer = await log.consumer(TOPIC, "payment", "b")
        await log.append(TOPIC, [event("after")])
        await read_until(consumer, "after")
    await consumer.close()
    await log.close()


async def test_a_group_can_be_asked_about_while_its_coordinator_loads(broker: Broker) -> None:
    """As after every start of a broker; the client's own way of asking ends the process then."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, IMPATIENT))
    consumer = await at_work(log)
    await consumer.commit(CommitBatch(done={0: 1}))
    for _ in range(2):
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        groups = ["payment", *(f"nobody-{number}" for number in range(5))]
        found = await asyncio.gather(*(log.committed(TOPIC, group) for group in groups))
        assert found == [{0: 1}, *({0: 0} for _ in groups[1:])]
    await consumer.close()
    await log.close()


async def test_a_start_waits_for_a_broker_but_not_for_ever() -> None:
    """The error then names the address."""
    (port,) = free_ports(1)
    log = KafkaLog(KafkaOptions(f"localhost:{port}", {}, request_s=0.2, start_s=0.5))
    with pytest.raises(StorageError, match=f"localhost:{port}"):
        await log.create(TOPIC, 1)
    await log.close()
