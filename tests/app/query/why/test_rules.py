"""`why`: incidents made on the memory backend, each with its one cause and its next command; healthy runs have none."""

from __future__ import annotations

import json
import random
import shlex

import pytest
from msgspec.structs import replace

from choreo.app.dead_letter import dead_letter_of
from choreo.app.query.flows import Flows
from choreo.app.query.queries import Queries
from choreo.core import facts
from choreo.core.errors import NotFoundError, UnavailableError
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.testing.conformance import keys_of_partition
from tests.app.harness import (
    PARTITIONS,
    OrderPlaced,
    PaymentCharged,
    PaymentDeclined,
    ShipmentPicked,
    Shop,
    StockReserved,
    shop,
)
from tests.app.incident import KEY, SERVICES, Incident, behind, evidence


@pytest.fixture
async def incident() -> Incident:
    """Return a shop with a tracker and without members of its services."""
    return Incident(await Shop().open())


async def test_no_worker_of_the_next_service(incident: Incident) -> None:
    """Incident 4: other groups are fine, and this one has no member."""
    await incident.shop.start(KEY)
    await incident.join("payment", "desk")
    answer = await incident.why()
    assert (answer.cause, answer.command, answer.healthy) == ("no-member", "choreo run stock", False)
    assert evidence(answer)["members of stock"] == "none"
    assert answer.evidence[-1].position == f"order/{partition_of(KEY, PARTITIONS)}/0"
    await incident.join("stock", work=False)
    assert (await incident.why()).cause == "running"


async def test_a_member_that_commits_nothing(incident: Incident) -> None:
    """Incidents 5, 6 and 12: it owns the partition and polls, and the offset stands still."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    assert (await incident.why()).healthy
    await incident.pass_time(300)
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("no-progress", "choreo run stock")
    assert evidence(answer)["owner of the partition"] == "stock-pod"
    assert evidence(answer)["committed"] == "0 of 1"
    assert "stock-pod owns partition" in answer.sentence


async def test_a_poison_record(incident: Incident) -> None:
    """Incidents 2 and 3: the event that the run waits for was set aside; after a redrive it is no cause."""
    await incident.shop.charged(KEY)
    await incident.join(*SERVICES)
    assert (await incident.why()).cause == "waiting"
    position = partition_of(KEY, PARTITIONS)
    record = Record("order", position, 9, incident.shop.clock.now_ms(), Envelope("x", "ShipmentPicked", KEY, "order"))
    letter = dead_letter_of(record, "tracker", "", "schema 7 is not known", record.stamp_ms, made_by="tracker")
    await incident.shop.backend.dead_letters.add([letter])
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("dead-letter", f"choreo dlq redrive {letter.id}")
    assert "schema 7 is not known" in answer.sentence
    assert answer.evidence[0].position == f"order/{position}/9"
    await incident.shop.backend.dead_letters.redriven(letter.id)
    assert (await incident.why()).cause == "waiting"


async def test_an_event_under_another_name(incident: Incident) -> None:
    """Incident 9: the flow has no such event, so that it was set aside while the run waits."""
    await incident.shop.charged(KEY)
    await incident.join(*SERVICES)
    record = Record(
        "order", partition_of(KEY, PARTITIONS), 9, incident.shop.clock.now_ms(), Envelope("x", "Picked", KEY, "")
    )
    letter = dead_letter_of(record, "tracker", "", "'Picked' is no event of flow order", record.stamp_ms, made_by="t")
    await incident.shop.backend.dead_letters.add([letter])
    answer = await incident.why()
    assert answer.cause == "dead-letter"
    assert "'Picked' is no event of flow order" in answer.sentence


async def test_a_record_in_another_partition_than_its_keys(incident: Incident) -> None:
    """Incident 7: the producer's partitioner is named."""
    await incident.shop.charged(KEY)
    await incident.join(*SERVICES)
    wrong = (partition_of(KEY, PARTITIONS) + 1) % PARTITIONS
    event = Envelope("x", "ShipmentPicked", KEY, "order", source="warehouse/4")
    record = Record("order", wrong, 3, incident.shop.clock.now_ms(), event)
    letter = dead_letter_of(record, "tracker", "", "it was published again once", record.stamp_ms, made_by="tracker")
    await incident.shop.backend.dead_letters.add([letter])
    answer = await incident.why()
    assert answer.cause == "wrong-partition"
    assert "partitioner=murmur2_random at its producer, warehouse/4" in answer.remedy


async def test_a_timer_that_no_fact_says(incident: Incident) -> None:
    """Incident 8: the tracker has read everything and publishes no due time."""
    await incident.shop.charged(KEY)
    await incident.join(*SERVICES)
    await incident.pass_time(1_000)
    assert (await incident.why()).healthy
    await incident.pass_time(86_400)
    await incident.join("tracker")  # the lease of the first one has ended
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("timer-late", "choreo run tracker")
    assert "the timeout of the wait for ShipmentPicked" in answer.sentence


async def test_an_event_under_another_key(incident: Incident) -> None:
    """Incident 9: the printed command publishes it under the right key, and the run goes on."""
    shop = incident.shop
    await shop.charged(KEY)
    await incident.join(*SERVICES)
    await shop.publisher.publish("order", ShipmentPicked(order_id="O-1", picked_by="bob's"), allow_early=True)
    await shop.track()
    answer = await incident.why()
    assert answer.cause == "orphan"
    assert answer.evidence[0].position == f"order/{partition_of('O-1', PARTITIONS)}/0"
    words = shlex.split(answer.command)
    assert words[:5] == ["choreo", "publish", "order", "ShipmentPicked", "--json"]
    await shop.publisher.publish("order", json.loads(words[5]), type_="ShipmentPicked")
    await shop.track()
    answer = await incident.why()
    assert (answer.cause, answer.healthy) == ("running", True)
    assert "desk.confirm" in answer.sentence


async def test_keys_that_differ_by_their_number_are_not_alike(incident: Incident) -> None:
    """The event of order 11 is not the one that order 1 waits for, and neither is that of a known order."""
    await incident.shop.charged(KEY)
    await incident.shop.charged("O-1")
    await incident.join(*SERVICES)
    for key in ("o-11", "O-1"):
        await incident.shop.publisher.publish("order", ShipmentPicked(order_id=key), allow_early=True)
    await incident.shop.track()
    assert (await incident.why()).cause == "waiting"


async def test_a_compensation_that_failed(incident: Incident) -> None:
    """Incident 10: the printed command requests it again."""
    shop = incident.shop
    await shop.stuck(KEY)
    await incident.join(*SERVICES)
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("undo-failed", f"choreo undo retry {KEY} stock.reserve --flow order")
    assert "the shelf is locked" in answer.sentence
    await shop.operator.retry_compensation("order", KEY, "stock.reserve")
    await shop.track()
    answer = await incident.why()
    assert (answer.cause, answer.healthy) == ("running", True)
    assert "the undo of stock.reserve" in answer.sentence


async def test_an_effect_in_doubt_without_a_way_back(incident: Incident) -> None:
    """Incident 10: its gateway cannot bar the key, so that only a person can look."""
    shop = incident.shop
    await shop.start(KEY)
    await shop.outcome("stock.reserve", StockReserved(order_id=KEY))
    await shop.outcome("payment.charge", PaymentDeclined(order_id=KEY))
    await incident.join(*SERVICES)
    answer = await incident.why()
    assert answer.cause == "undo-in-doubt"
    assert answer.command.startswith(f"choreo undo resolve {KEY} payment.charge --flow order --reason ")


async def test_a_version_that_the_present_code_does_not_serve(incident: Incident) -> None:
    """Incident 11: new runs are fine, old ones age together."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    known, backend, flow = incident.shop, incident.shop.backend, shop()
    flows = Flows({"order": replace(flow.draft(), version=2)}, {"order": flow.event_classes})
    stores = (backend.log, backend.read_model, backend.dead_letters)
    queries = Queries(flows, *stores, known.codec, known.clock, steps={"order": flow.steps})
    answer = await queries.why("order", KEY, patience_s=0)
    assert (answer.cause, answer.command) == ("version-unserved", "choreo deploy check order")
    assert "of version 1" in answer.sentence


async def test_offsets_that_jumped_past_the_trigger(incident: Incident) -> None:
    """Incident 13: the group has committed it, and no outcome is in the log."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=True)
    answer = await incident.why()
    assert answer.cause == "offset-past"
    assert "--to-offset 0 --execute" in answer.command
    assert evidence(answer)["committed"] == "1 of 1"


async def test_a_hot_key_holds_its_partition_up(incident: Incident) -> None:
    """Incident 14: one key has nearly all of the records, and more members would not help."""
    others = [key for key in keys_of_partition(partition_of(KEY, PARTITIONS), PARTITIONS, 8) if key != KEY]
    await behind(incident, [others[0]] * 20 + others[1:4])
    answer = await incident.why()
    assert answer.cause == "hot-key"
    assert f"87 % of them of key {others[0]}" in answer.sentence
    assert answer.command == f"choreo show {others[0]} --flow order"


async def test_lag_before_the_trigger(incident: Incident) -> None:
    """Incident 14: many keys wait, and the service is slow."""
    keys = [key for key in keys_of_partition(partition_of(KEY, PARTITIONS), PARTITIONS, 21) if key != KEY]
    await behind(incident, keys)
    answer = await incident.why()
    assert answer.cause == "lag"
    assert answer.sentence.startswith(f"{len(keys)} triggers of service stock stand before stock.reserve")


async def test_an_operator_forgot_a_pause(incident: Incident) -> None:
    """The fact that paused it is in the evidence, and its reason in the sentence."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    await incident.shop.operator.pause("order", KEY, reason="ann looks at the stock")
    await incident.shop.track()
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("paused", f"choreo resume {KEY} --flow order")
    assert answer.sentence.endswith(": ann looks at the stock")
    assert answer.evidence[0].position
    await incident.shop.operator.resume("order", KEY)
    await incident.shop.track()
    assert (await incident.why()).cause == "running"


async def test_the_tracker_is_away(incident: Incident) -> None:
    """With and without unread records: no due time would be published."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    await incident.shop.consumer.close()
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("tracker-away", "choreo run tracker")
    await incident.shop.operator.cancel("order", KEY)
    answer = await incident.why()
    assert answer.cause == "tracker-away"
    assert "1 record of partition" in answer.sentence
    await incident.shop.publisher.publish("order", OrderPlaced(order_id="o-new"))
    with pytest.raises(UnavailableError, match="no run of key 'o-new' is shown") as refused:
        await incident.why("o-new")
    assert "choreo run tracker" in refused.value.remedy


async def test_a_tracker_that_reads_nothing(incident: Incident) -> None:
    """It owns the partition, and the first unread record is old."""
    await incident.shop.start(KEY)
    await incident.join(*SERVICES, work=False)
    await incident.shop.operator.cancel("order", KEY)
    answer = await incident.why()
    assert answer.cause == "read-model-behind"
    await incident.pass_time(60)
    answer = await incident.why()
    assert (answer.cause, answer.command) == ("tracker-stalled", "choreo run tracker")
    assert evidence(answer)["owner of the partition"] == "test"


async def test_a_partition_without_an_owner(incident: Incident) -> None:
    """A member that joined and never polled has no partition yet."""
    await incident.shop.start(KEY)
    await incident.shop.backend.log.consumer("order", "stock", "stock-pod")
    answer = await incident.why()
    assert answer.cause == "not-assigned"
    assert "service stock has 1 member, and none owns partition" in answer.sentence


async def test_of_two_symptoms_the_first_in_the_list_is_the_cause(incident: Incident) -> None:
    """A pause is before a missing worker, which is also seen; a failed undo is for a person."""
    shop = incident.shop
    await shop.stuck(KEY)
    await shop.start("o-2")
    await shop.operator.pause("order", "o-2")
    await shop.track()
    answer = await incident.why("o-2")
    assert answer.cause == "paused"
    assert [each.cause for each in answer.also] == ["no-member"]
    assert (await incident.why()).cause == "undo-failed"


async def test_healthy_runs_have_no_cause(incident: Incident) -> None:
    """At every stage of 1,000 runs with working services, nothing is wrong: an end, a wait, a retry, an attempt."""
    shop, chance = incident.shop, random.Random(7)
    await incident.join(*SERVICES, work=False)
    seen: set[str] = set()

    async def well(key: str) -> None:
        answer = await incident.why(key)
        assert (answer.healthy, answer.also) == (True, []), answer
        seen.add(answer.cause)

    for number in range(1_000):
        key, stage = f"k-{number}", chance.randrange(5)
        await shop.start(key)
        await well(key)
        if stage == 0:
            run = shop.run(key).id
            await shop.fact(key, facts.STEP_ATTEMPT_FAILED, step="stock.reserve", trigger=run, attempt=1, reason="busy")
            await incident.work(*SERVICES)
            await well(key)
        if stage == 0:
            due_s = (shop.run(key).expected[0].retry_ms - shop.clock.now_ms()) / 1_000
            await shop.pass_due(key, due_s)
        await shop.outcome("stock.reserve", StockReserved(order_id=key))
        await well(key)
        if stage in (1, 2):
            await shop.outcome("payment.charge", PaymentCharged(order_id=key))
            await incident.work(*SERVICES)
            await well(key)
            await shop.operator.cancel("order", key)
            await shop.track()
            await well(key)
        else:
            await shop.outcome("payment.charge", PaymentDeclined(order_id=key), certain=True)
        await incident.work(*(service for service in SERVICES if service != "payment" or stage not in (1, 2)))
        await shop.operator.terminate("order", key, reason="the test has seen enough")
        await shop.track()
        await incident.work(*SERVICES)
        await well(key)
    assert seen == {"running", "backoff", "waiting", "ended"}


async def test_an_unknown_key_is_an_error(incident: Incident) -> None:
    """There is nothing to explain."""
    with pytest.raises(NotFoundError, match="no instance 'nobody'"):
        await incident.why("nobody")
