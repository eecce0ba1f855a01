"""The event catalogue: declared beside seen; each difference is an alarm, and there is none without a difference."""

from __future__ import annotations

import asyncio

import pytest

from choreo.app.query.catalogue import Catalogue, EventEntry
from choreo.app.query.sightings import OTHERS, PARTS_MAX, SeenType, encoding_of
from choreo.core.events import Envelope, Record
from tests.app.harness import PaymentCharged, ShipmentPicked, Shop, StockReserved

JSON = "application/json"


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with a completed, a compensated and a stuck order."""
    shop = await Shop().open()
    await shop.completed("o-1")
    await shop.compensated("o-2")
    await shop.stuck("o-3")
    return shop


def entry(found: Catalogue, type_: str) -> EventEntry:
    """Return the entry of a type."""
    return next(each for each in found.items if each.type == type_)


async def foreign(
    shop: Shop, type_: str, data: bytes, *, content_type: str = JSON, version: int = 1, step: str = ""
) -> None:
    """Put an event of a foreign producer into the log."""
    event = Envelope(
        f"f-{type_}",
        type_,
        "o-1",
        "order",
        step=step,
        version=version,
        source="warehouse/4",
        content_type=content_type,
        data=data,
    )
    await shop.backend.log.append("order", [event])


async def test_declared_and_seen_agree(shop: Shop) -> None:
    """Every event of three orders has its producers and consumers, and nothing is drift."""
    found = await shop.queries.catalogue("order")
    assert found.drift == []
    charged = entry(found, "PaymentCharged")
    assert charged.declared
    assert charged.producers == ["payment.charge"]
    assert [(each.name, each.count) for each in charged.seen_producers] == [("payment.charge", 1)]
    assert [each.name for each in charged.consumers] == ["wait.ShipmentPicked"]
    assert [(each.name, each.count, each.declared) for each in charged.versions] == [("1", 1, True)]
    assert charged.position.startswith("order/")
    assert charged.last_ms == shop.clock.now_ms()
    placed = entry(found, "OrderPlaced")
    assert (placed.producers, placed.count) == (["outside"], 3)
    assert [each.name for each in placed.seen_producers] == ["choreo/publish"]
    reserve = placed.consumers[0]
    assert (reserve.name, reserve.last_ms > 0) == ("stock.reserve", True)
    assert entry(found, "PickTimedOut").producers == ["tracker"]
    assert entry(found, "PickTimedOut").count == 0
    assert not any(each.type.startswith("choreo.") for each in found.items)


async def test_new_records_are_counted_once(shop: Shop) -> None:
    """Also where two people ask at the same time."""
    await asyncio.gather(*(shop.queries.catalogue("order") for _ in range(3)))
    await shop.start("o-4")
    asked = await asyncio.gather(*(shop.queries.catalogue("order") for _ in range(3)))
    assert {entry(found, "OrderPlaced").count for found in asked} == {4}


async def test_an_event_that_no_flow_declares(shop: Shop) -> None:
    """Its producer is named."""
    await foreign(shop, "ShipmentLost", b"{}")
    found = await shop.queries.catalogue("order")
    assert found.drift == ["ShipmentLost: the flow declares no such event, and warehouse/4 publishes it"]
    assert found.items[0].type == "ShipmentLost"


async def test_a_producer_that_does_not_declare_the_event(shop: Shop) -> None:
    """A foreign program publishes the outcome of a step."""
    data = shop.codec.encode(PaymentCharged(order_id="o-1"))
    await foreign(shop, "PaymentCharged", data, content_type=shop.codec.content_type)
    found = await shop.queries.catalogue("order")
    assert found.drift == ["PaymentCharged: warehouse/4 publishes it and does not declare it"]


async def test_a_step_that_publishes_an_event_of_another(shop: Shop) -> None:
    """The steps of other services count as others do."""
    data = shop.codec.encode(StockReserved(order_id="o-1"))
    await foreign(shop, "StockReserved", data, content_type=shop.codec.content_type, step="desk.confirm")
    found = await shop.queries.catalogue("order")
    assert found.drift == ["StockReserved: desk.confirm publishes it and does not declare it"]


async def test_anybody_but_a_step_may_publish_an_event_from_outside(shop: Shop) -> None:
    """A foreign program without a name is welcome; a step that satisfies a wait from within is not."""
    data, content = shop.codec.encode(ShipmentPicked(order_id="o-1")), shop.codec.content_type
    nameless = Envelope("n-1", "ShipmentPicked", "o-1", "order", content_type=content, data=data)
    await shop.backend.log.append("order", [nameless])
    assert (await shop.queries.catalogue("order")).drift == []
    await foreign(shop, "ShipmentPicked", data, content_type=content, step="desk.tell")
    drift = (await shop.queries.catalogue("order")).drift
    assert drift == ["ShipmentPicked: desk.tell publishes it and does not declare it"]


async def test_fields_that_are_not_declared_and_fields_that_are_missing(shop: Shop) -> None:
    """One sample of each schema is compared; a value is never shown."""
    await foreign(shop, "ShipmentPicked", b'{"order_id": "o-1", "van": "secret"}')
    found = await shop.queries.catalogue("order")
    unreadable, extra = found.drift
    assert unreadable.startswith("ShipmentPicked: application/json cannot be read: ")
    assert extra == "ShipmentPicked: application/json has fields that are not declared: van"
    json = next(each for each in entry(found, "ShipmentPicked").schemas if each.name == JSON)
    assert json.missing == ["picked_by"]
    assert "secret" not in repr([found.drift, [schema for each in found.items for schema in each.schemas]])


async def test_a_value_that_cannot_be_read(shop: Shop) -> None:
    """The reason is the codec's; the other events of the type are compared all the same."""
    await foreign(shop, "ShipmentPicked", b"\x00\x00\x00\x00\x07rest", content_type="avro/binary")
    (sentence,) = (await shop.queries.catalogue("order")).drift
    assert sentence.startswith("ShipmentPicked: schema 7 cannot be read: ")


async def test_a_version_that_is_not_known(shop: Shop) -> None:
    """A producer runs newer code."""
    await foreign(shop, "ShipmentPicked", b'{"order_id": "o-1", "picked_by": ""}', version=7)
    assert (await shop.queries.catalogue("order")).drift == [
        "ShipmentPicked: it was published in version 7, which is not known here"
    ]


def test_the_memory_of_a_type_is_bounded() -> None:
    """A producer with a new name for each event fills no memory."""
    seen = SeenType()
    for number in range(3 * PARTS_MAX):
        seen.add(Record("order", 0, number, 1, Envelope("e", "T", "k", "order", source=f"pod/{number}")))
    assert len(seen.producers) == PARTS_MAX + 1
    assert seen.producers[OTHERS].count == 2 * PARTS_MAX
    assert seen.total.count == 3 * PARTS_MAX


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (Envelope("e", "T", "k", "f", data=b"\x00\x00\x00\x00\x2arest"), "schema 42"),
        (Envelope("e", "T", "k", "f", data=b"\xc3\x01" + bytes(8) + b"rest"), "fingerprint 0000000000000000"),
        (Envelope("e", "T", "k", "f", content_type="application/json", data=b"{}"), "application/json"),
        (Envelope("e", "T", "k", "f"), "no content type"),
    ],
)
def test_a_schema_is_named_by_the_values_head(event: Envelope, name: str) -> None:
    """The registry's number, the fingerprint, or the content type."""
    assert encoding_of(event) == name
