"""Conditions of the log that do not pass by themselves: reported while they last, over without a restart.

All roles of the reference flow on a real broker and a real Redis.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from choreo.adapters.clock import SystemClock
from schemas.orders import ShipmentPicked
from tests.audit import from_kafka
from tests.members.conftest import Servers
from tests.members.everything import running
from tests.members.scene import FLOW, PARTITIONS, Scene, keys_in

ITEMS = [{"sku": "tea", "quantity": 1}]


def topic() -> str:
    """The flow's topic in the cluster."""
    return os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + FLOW


def set_on_topic(servers: Servers, name: str, value: str) -> None:
    """Change a setting of the topic, as an operator would."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic(), incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": servers.kafka})
    admin.incremental_alter_configs([resource])[resource].result(10)


def placed(key: str) -> dict[str, Any]:
    """An order as a foreign producer writes it."""
    order = {"order_id": key, "customer_id": "ada", "card": "visa", "amount": "12.50", "items": ITEMS}
    return {"key": key, "value": json.dumps(order).encode(), "headers": {"ce_type": "OrderPlaced"}}


def transactional(servers: Servers, name: str) -> Producer:
    """A foreign producer that writes in transactions."""
    producer = Producer(
        {"bootstrap.servers": servers.kafka, "transactional.id": topic() + name, "partitioner": "murmur2_random"}
    )
    producer.init_transactions(20)
    return producer


async def test_a_foreign_producers_transactions(
    scene: Scene, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aborted order is worked by nobody; one that is open is reported, holds back its partition alone, and ends."""
    aborted, committed, open_, behind = keys_in([0], 4, "o")
    (beside,) = keys_in([1], 1, "o")
    async with running(scene, monkeypatch) as everyone:
        producer = transactional(servers, "ends")
        producer.begin_transaction()
        producer.produce(topic(), **placed(aborted))
        producer.flush(10)
        producer.abort_transaction(20)
        producer.begin_transaction()
        producer.produce(topic(), **placed(committed))
        producer.commit_transaction(20)
        await scene.until(lambda: scene.said("ShipmentCreated", [committed]), "the committed order is worked")
        assert aborted not in {record.event.key for record in await scene.log()}

        hanging = transactional(servers, "hangs")
        hanging.begin_transaction()
        hanging.produce(topic(), **placed(open_))
        hanging.flush(10)
        await scene.place(behind, card="declined")
        await scene.place(beside, card="declined")
        await scene.until(lambda: everyone.stand([beside], "compensated"), "another partition goes on")
        await scene.until(lambda: everyone.reports(f"transactions on {FLOW}"), "the open transaction is reported")
        report = (await everyone.unavailable())[f"transactions on {FLOW}"]
        assert "of partition 0" in report["cause"]
        assert "kafka-transactions.sh abort" in report["remedy"]
        assert 'counter="open_transaction_records"' in (await everyone.asked("/metrics"))[1]
        assert await everyone.is_caught_up()  # what nobody can read is no lag
        hanging.commit_transaction(20)
        await scene.until(lambda: everyone.stand([behind], "compensated"), "what stood behind it is worked")
        await scene.until(lambda: scene.said("ShipmentCreated", [open_]), "so is what it wrote")
        await scene.until(everyone.is_ready, "there is nothing to report any more")
        await scene.until(everyone.is_caught_up, "markers are no lag")
    read = {fact.key for fact in await asyncio.to_thread(from_kafka.facts, servers.kafka, topic())}
    assert read == {committed, open_, behind, beside}  # by the auditor, who shares no code with choreo


async def test_a_topic_that_carries_its_producers_time_for_a_while(
    scene: Scene, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are given the time of those before them: orders end, every role goes on, and all read the same."""
    async with running(scene, monkeypatch) as everyone:
        before, during, after = (keys_in(range(PARTITIONS), 1, name) for name in ("before", "during", "after"))
        for key in before:
            await scene.place(key, card="declined")
        await scene.until(lambda: everyone.stand(before, "compensated"), "orders end")
        set_on_topic(servers, "message.timestamp.type", "CreateTime")
        for key in during:
            await scene.place(key, card="declined")
        await scene.until(lambda: everyone.reports(f"settings of {FLOW}"), "the setting is reported")
        assert "CreateTime" in (await everyone.unavailable())[f"settings of {FLOW}"]["cause"]
        await scene.until(lambda: everyone.stand(during, "compensated"), "orders end meanwhile")
        set_on_topic(servers, "message.timestamp.type", "LogAppendTime")
        await scene.until(everyone.is_ready, "there is nothing to report any more")
        for key in after:
            await scene.place(key, card="declined")
        await scene.until(lambda: everyone.stand(after, "compensated"), "orders end as before")
        for partition in range(PARTITIONS):
            together = await scene.app.home.log.read(FLOW, partition, 0, 1_000)
            stamps = [record.stamp_ms for record in together]
            assert stamps == sorted(stamps)
            alone = [await scene.app.home.log.read(FLOW, partition, record.offset, 1) for record in together]
            assert [record.stamp_ms for (record,) in alone] == stamps


def forget_groups(servers: Servers) -> None:
    """Let the cluster lose what every group has committed, as it does a week after all members have left."""
    admin = AdminClient({"bootstrap.servers": servers.kafka})
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    groups = [found.group_id for found in admin.list_consumer_groups().result(20).valid]
    mine = [group for group in groups if group.startswith(prefix)]
    assert mine
    for answer in admin.delete_consumer_groups(mine).values():
        answer.result(20)


def calls(scene: Scene) -> int:
    """How often an outside system was called."""
    found = 0
    for book in ("bank", "warehouse", "carrier"):
        with closing(sqlite3.connect(scene.books / f"{book}.sqlite", timeout=30)) as db:
            found += db.execute("SELECT coalesce(sum(count), 0) FROM calls").fetchone()[0]
    return found


async def test_offsets_that_expired_while_nothing_ran(
    scene: Scene, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is read again from the beginning, and what is done is done: no handler runs a second time."""
    declined, shipped = keys_in(range(PARTITIONS), 1, "declined"), keys_in(range(PARTITIONS), 1, "shipped")
    async with running(scene, monkeypatch) as everyone:
        for key in (*declined, *shipped):
            await scene.place(key, card="declined" if key in declined else "visa")
        await scene.until(lambda: everyone.stand(declined, "compensated"), "the declined orders end")
        await scene.until(lambda: scene.said("ShipmentCreated", shipped), "the others wait for their pick")
        await scene.until(everyone.is_caught_up, "everything is read")
    before, said = calls(scene), len(await scene.log())
    forget_groups(servers)
    async with running(scene, monkeypatch) as everyone:
        await scene.until(everyone.is_caught_up, "everything is read again")
        for key in shipped:
            await scene.publish(ShipmentPicked(order_id=key, picked_by="p-7"))
        await scene.until(lambda: everyone.stand(shipped, "completed"), "the open orders go on")
    assert calls(scene) == before
    new = {record.event.type for record in (await scene.log())[said:]}
    assert new == {"ShipmentPicked", "OrderConfirmed", "choreo.FlowCompleted"}


class WrongClock(SystemClock):
    """A machine's clock that is wrong by so much."""

    def __init__(self, skew_ms: int) -> None:
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        """What the machine takes for the present moment."""
        return super().now_ms() + self._skew_ms


@pytest.mark.parametrize("skew_s", [3_600, -3_600])
async def test_a_machine_whose_clock_is_wrong_by_an_hour(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, skew_s: int
) -> None:
    """It says so, and works as if it were right: no step is skipped, no deadline passes early, none late."""
    monkeypatch.setenv("CHOREO_TIME_SCALE", "5760")  # a pick may take 15 s
    for key in ("early", "declined"):  # a backlog: nothing has told the machine of its mistake yet
        await scene.place(key, card="declined" if key == "declined" else "visa")
    async with running(scene, monkeypatch, WrongClock(skew_s * 1_000)) as everyone:
        await scene.until(lambda: everyone.stand(["declined"], "compensated"), "a declined order ends")
        await scene.until(lambda: scene.said("PickTimedOut", ["early"]), "nobody picked it")
        await scene.until(lambda: everyone.stand(["early"], "compensated"), "so it is compensated")
        await scene.until(lambda: everyone.reports("clock"), "the clock is reported")
        assert ("ahead of" if skew_s > 0 else "behind") in (await everyone.unavailable())["clock"]["cause"]
        skew = [line for line in (await everyone.asked("/metrics"))[1].splitlines() if "clock_skew_ms" in line]
        assert abs(float(skew[0].split()[-1]) - skew_s * 1_000) < 60_000
    log = await scene.log()
    assert "choreo.StepSkipped" not in {record.event.type for record in log}
    stamp = {record.event.type: record.stamp_ms for record in log if record.event.key == "early"}
    assert 15_000 <= stamp["PickTimedOut"] - stamp["ShipmentCreated"] < 120_000
