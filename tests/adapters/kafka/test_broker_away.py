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


async def test_a_broker_that_comes_back_finds_everybody_waiting(broker: Broker) -> None:
    """Whoever asks meanwhile is told so; the same log and the same member go on afterwards."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, IMPATIENT))
    await log.create(TOPIC, 1)
    member = await log.member(TOPIC, "payment", "a")
    await log.append(TOPIC, [event("before")])
    await read_until(member, "before")
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


async def test_a_member_that_finds_no_way_back_is_made_anew(broker: Broker) -> None:
    """Its client may hang for all we know: the host is told, and joins with another one."""
    log = KafkaLog(KafkaOptions(broker.bootstrap, {**IMPATIENT, **QUICK}, rejoin_s=8.0))
    await log.create(TOPIC, 1)
    member = await log.member(TOPIC, "payment", "a")
    await log.append(TOPIC, [event("before")])
    await read_until(member, "before")
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


async def test_a_start_waits_for_a_broker_but_not_for_ever() -> None:
    """Then it says where it looked."""
    (port,) = free_ports(1)
    log = KafkaLog(KafkaOptions(f"localhost:{port}", {}, request_s=0.2, start_s=0.5))
    with pytest.raises(StorageError, match=f"localhost:{port}"):
        await log.create(TOPIC, 1)
    await log.close()
