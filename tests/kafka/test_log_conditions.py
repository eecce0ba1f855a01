"""Conditions of the log that do not pass by themselves: reported while they last, over without a restart.

All roles of the reference flow on a real broker and a real Redis.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from choreo.adapters.clock import SystemClock
from choreo.cli.failures import CONFLICT
from choreo.cli.program import run as run_command
from schemas.orders import ShipmentPicked
from tests.audit import from_kafka
from tests.kafka.conftest import Servers
from tests.kafka.everything import running
from tests.kafka.harness import FLOW, PARTITIONS, Harness, keys_in
from tests.support.patience import PATIENCE_S

ITEMS = [{"sku": "tea", "quantity": 1}]


def topic() -> str:
    """Return the flow's topic in the cluster."""
    return os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + FLOW


def set_on_topic(servers: Servers, name: str, value: str) -> None:
    """Change a setting of the topic, as an operator would."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic(), incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": servers.kafka})
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)


def placed(key: str) -> dict[str, Any]:
    """Return an order as a foreign producer writes it."""
    order = {"order_id": key, "customer_id": "ada", "card": "visa", "amount": "12.50", "items": ITEMS}
    return {"key": key, "value": json.dumps(order).encode(), "headers": {"ce_type": "OrderPlaced"}}


def transactional(servers: Servers, name: str) -> Producer:
    """Return a foreign producer that writes in transactions."""
    producer = Producer(
        {"bootstrap.servers": servers.kafka, "transactional.id": topic() + name, "partitioner": "murmur2_random"}
    )
    producer.init_transactions(20)
    return producer


async def test_a_foreign_producers_transactions(
    harness: Harness, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aborted order is worked by nobody; one that is open is reported, holds back its partition alone, and ends."""
    aborted, committed, open_, behind = keys_in([0], 4, "o")
    (beside,) = keys_in([1], 1, "o")
    async with running(harness, monkeypatch) as everyone:
        producer = transactional(servers, "ends")
        producer.begin_transaction()
        producer.produce(topic(), **placed(aborted))
        producer.flush(10)
        producer.abort_transaction(20)
        producer.begin_transaction()
        producer.produce(topic(), **placed(committed))
        producer.commit_transaction(20)
        await harness.until(lambda: harness.published("ShipmentCreated", [committed]), "the committed order is worked")
        assert aborted not in {record.event.key for record in await harness.log()}

        hanging = transactional(servers, "hangs")
        hanging.begin_transaction()
        hanging.produce(topic(), **placed(open_))
        hanging.flush(10)
        await harness.place(behind, card="declined")
        await harness.place(beside, card="declined")
        await harness.until(lambda: everyone.stand([beside], "compensated"), "another partition goes on")
        await harness.until(lambda: everyone.reports(f"transactions on {FLOW}"), "the open transaction is reported")
        report = (await everyone.unavailable())[f"transactions on {FLOW}"]
        assert "of partition 0" in report["cause"]
        assert "kafka-transactions.sh abort" in report["remedy"]
        assert "choreo_open_transaction_records" in (await everyone.asked("/metrics"))[1]
        assert await everyone.is_caught_up()  # unreadable records are no lag
        hanging.commit_transaction(20)
        await harness.until(lambda: everyone.stand([behind], "compensated"), "what stood behind it is worked")
        await harness.until(lambda: harness.published("ShipmentCreated", [open_]), "so is what it wrote")
        await harness.until(everyone.is_ready, "there is nothing to report any more")
        await harness.until(everyone.is_caught_up, "markers are no lag")
    read = {fact.key for fact in await asyncio.to_thread(from_kafka.facts, servers.kafka, topic())}
    assert read == {committed, open_, behind, beside}  # by the auditor, which shares no code with choreo


async def test_a_topic_that_carries_its_producers_time_for_a_while(
    harness: Harness, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are given the time of those before them: orders end, every role goes on, and all read the same."""
    async with running(harness, monkeypatch) as everyone:
        before, during, after = (keys_in(range(PARTITIONS), 1, name) for name in ("before", "during", "after"))
        for key in before:
            await harness.place(key, card="declined")
        await harness.until(lambda: everyone.stand(before, "compensated"), "orders end")
        set_on_topic(servers, "message.timestamp.type", "CreateTime")
        for key in during:
            await harness.place(key, card="declined")
        await harness.until(lambda: everyone.reports(f"settings of {FLOW}"), "the setting is reported")
        assert "CreateTime" in (await everyone.unavailable())[f"settings of {FLOW}"]["cause"]
        await harness.until(lambda: everyone.stand(during, "compensated"), "orders end meanwhile")
        set_on_topic(servers, "message.timestamp.type", "LogAppendTime")
        await harness.until(everyone.is_ready, "there is nothing to report any more")
        for key in after:
            await harness.place(key, card="declined")
        await harness.until(lambda: everyone.stand(after, "compensated"), "orders end as before")
        for partition in range(PARTITIONS):
            together = await harness.app.backend.log.read(FLOW, partition, 0, 1_000)
            stamps = [record.stamp_ms for record in together]
            assert stamps == sorted(stamps)
            alone = [await harness.app.backend.log.read(FLOW, partition, record.offset, 1) for record in together]
            assert [record.stamp_ms for (record,) in alone] == stamps


def forget_groups(servers: Servers) -> None:
    """Let the cluster lose every group's offsets, as it does a week after all consumers have left."""
    admin = AdminClient({"bootstrap.servers": servers.kafka})
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    groups = [found.group_id for found in admin.list_consumer_groups().result(PATIENCE_S).valid]
    mine = [group for group in groups if group.startswith(prefix)]
    assert mine
    for answer in admin.delete_consumer_groups(mine).values():
        answer.result(PATIENCE_S)


async def test_a_rebuild_of_a_log_without_its_first_records(
    harness: Harness, servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It refuses, and names the runs without a start; accepted, it lists them as truncated. Nobody decides for them."""
    (cut,), (whole,) = keys_in([0], 1, "cut"), keys_in([1], 1, "whole")
    async with running(harness, monkeypatch) as everyone:
        for key in (cut, whole):
            await harness.place(key)
        await harness.until(lambda: harness.published("ShipmentCreated", [cut, whole]), "both wait for their pick")
        await harness.until(everyone.is_caught_up, "everything is read")
    published = await harness.log()
    place = TopicPartition(topic(), 0, min(r.offset for r in published if r.event.type == "PaymentCharged"))
    admin = AdminClient({"bootstrap.servers": servers.kafka})
    await asyncio.to_thread(admin.delete_records([place])[place].result, 20)

    assert await asyncio.to_thread(run_command, ["projections", "rebuild", FLOW]) == CONFLICT
    assert f"{cut} (run " in capsys.readouterr().err
    assert await asyncio.to_thread(run_command, ["projections", "rebuild", FLOW, "--accept-changes"]) == 0
    assert "1 running" in (shown := capsys.readouterr().out)
    assert "1 truncated" in shown
    assert await asyncio.to_thread(run_command, ["list", "--status", "truncated"]) == 0
    assert cut in capsys.readouterr().out
    async with running(harness, monkeypatch) as everyone:
        await harness.publish(ShipmentPicked(order_id=whole, picked_by="p-7"))
        await harness.until(lambda: everyone.stand([whole], "completed"), "the whole order goes on")
        await harness.until(everyone.is_caught_up, "everything is read")
    after = [record.event for record in (await harness.log())[len(published) :] if record.event.key == cut]
    assert after == []


def calls(harness: Harness) -> int:
    """Return how often an outside system was called."""
    found = 0
    for book in ("bank", "warehouse", "carrier"):
        with closing(sqlite3.connect(harness.books / f"{book}.sqlite", timeout=30)) as db:
            found += db.execute("SELECT coalesce(sum(count), 0) FROM calls").fetchone()[0]
    return found


async def test_offsets_that_expired_while_nothing_ran(
    harness: Harness, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is read again from the beginning, and done work stays done: no handler runs a second time."""
    declined, shipped = keys_in(range(PARTITIONS), 1, "declined"), keys_in(range(PARTITIONS), 1, "shipped")
    async with running(harness, monkeypatch) as everyone:
        for key in (*declined, *shipped):
            await harness.place(key, card="declined" if key in declined else "visa")
        await harness.until(lambda: everyone.stand(declined, "compensated"), "the declined orders end")
        await harness.until(lambda: harness.published("ShipmentCreated", shipped), "the others wait for their pick")
        await harness.until(everyone.is_caught_up, "everything is read")
    before, published = calls(harness), len(await harness.log())
    forget_groups(servers)
    async with running(harness, monkeypatch) as everyone:
        await harness.until(everyone.is_caught_up, "everything is read again")
        for key in shipped:
            await harness.publish(ShipmentPicked(order_id=key, picked_by="p-7"))
        await harness.until(lambda: everyone.stand(shipped, "completed"), "the open orders go on")
    assert calls(harness) == before
    new = {record.event.type for record in (await harness.log())[published:]}
    assert new == {"ShipmentPicked", "OrderConfirmed", "choreo.FlowCompleted"}


class WrongClock(SystemClock):
    """A machine's clock that is wrong by so much."""

    def __init__(self, skew_ms: int) -> None:
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        """Return the present moment by the machine's clock."""
        return super().now_ms() + self._skew_ms


@pytest.mark.parametrize("skew_s", [3_600, -3_600])
async def test_a_machine_whose_clock_is_wrong_by_an_hour(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, skew_s: int
) -> None:
    """It reports this, and works as if it were right: no step is skipped, no deadline passes early, none late."""
    monkeypatch.setenv("CHOREO_TIME_SCALE", "5760")  # a pick may take 15 s
    for key in ("early", "declined"):  # a backlog: nothing has told the machine of its mistake yet
        await harness.place(key, card="declined" if key == "declined" else "visa")
    async with running(harness, monkeypatch, WrongClock(skew_s * 1_000)) as everyone:
        await harness.until(lambda: everyone.stand(["declined"], "compensated"), "a declined order ends")
        await harness.until(lambda: harness.published("PickTimedOut", ["early"]), "nobody picked it")
        await harness.until(lambda: everyone.stand(["early"], "compensated"), "so it is compensated")
        await harness.until(lambda: everyone.reports("clock"), "the clock is reported")
        assert ("ahead of" if skew_s > 0 else "behind") in (await everyone.unavailable())["clock"]["cause"]
        skew = re.search(r"^choreo_clock_skew_seconds (.*)$", (await everyone.asked("/metrics"))[1], re.MULTILINE)
        assert skew is not None
        assert abs(float(skew[1]) - skew_s) < 60
    log = await harness.log()
    assert "choreo.StepSkipped" not in {record.event.type for record in log}
    stamp = {record.event.type: record.stamp_ms for record in log if record.event.key == "early"}
    assert 15_000 <= stamp["PickTimedOut"] - stamp["ShipmentCreated"] < 120_000
