"""Garbage on the log: each kind becomes a dead letter with the fault, and no other key is delayed or lost."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bench.saga import OrderPlaced, placed
from choreo.adapters.avro.codec import AvroCodec
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.settings import load
from choreo.wiring import App
from tests.support.running import running, until

JSON = "application/json"
AVRO = AvroCodec().encode(placed(1))

# Records that a foreign producer puts on the topic, under the key "bad", and the reasons in their dead letters.
GARBAGE: dict[str, tuple[dict[str, Any], str]] = {
    "an empty value": ({"data": b""}, "OrderPlaced"),
    "a value that is not JSON": ({"data": b"{", "content_type": JSON}, "JSON"),
    "JSON that is no object": ({"data": b"[1, 2]", "content_type": JSON}, "OrderPlaced"),
    "JSON null": ({"data": b"null", "content_type": JSON}, "OrderPlaced"),
    "JSON without a field": ({"data": b'{"order_id": "bad", "amount": 1}', "content_type": JSON}, "declined"),
    "JSON with a field too many": (
        {"data": b'{"order_id": "bad", "amount": 1, "declined": false, "colour": 1}', "content_type": JSON},
        "colour",
    ),
    "JSON with a text for a number": (
        {"data": b'{"order_id": "bad", "amount": "1", "declined": false}', "content_type": JSON},
        "amount",
    ),
    "JSON with a null": (
        {"data": b'{"order_id": null, "amount": 1, "declined": false}', "content_type": JSON},
        "order_id",
    ),
    "an event about another key": (
        {"data": b'{"order_id": "other", "amount": 1, "declined": false}', "content_type": JSON},
        "it is about 'other', and its message key is 'bad'",
    ),
    "JSON in another encoding": ({"data": '{"order_id": "ü"}'.encode("utf-16"), "content_type": JSON}, "JSON"),
    "Avro cut short": ({"data": AVRO[:-2], "content_type": "application/avro"}, "OrderPlaced"),
    "Avro of an unknown schema": (
        {"data": b"\xc3\x01" + b"\x00" * 8 + b"x", "content_type": "application/avro"},
        "schema",
    ),
    "Avro without its magic": ({"data": b"\x00" + AVRO, "content_type": "application/avro"}, "OrderPlaced"),
    "random bytes": ({"data": bytes(range(256)), "content_type": "application/avro"}, "OrderPlaced"),
    "a content type nobody knows": ({"data": b"<order/>", "content_type": "application/xml"}, "application/xml"),
    "an unknown type": (
        {"type": "OrderLost", "data": b"{}", "content_type": JSON},
        "'OrderLost' is no event of flow order",
    ),
    "no type": ({"type": "", "data": b"{}", "content_type": JSON}, "'' is no event of flow order"),
    "a fact of choreo's that is none": ({"type": "choreo.Invented", "data": b""}, "'choreo.Invented' is no event"),
}


def garbage(**fields: Any) -> Envelope:
    """Return a record as a foreign producer writes it."""
    return Envelope(**{"id": "", "type": "OrderPlaced", "key": "bad", "flow": "order"} | fields)


def opened(folder: Path) -> AbstractAsyncContextManager[App]:
    """Run the whole saga in this process, in memory."""
    settings = load(flows=("bench.saga:order",), database=folder / "x.db", partitions=2, topics=folder / "none")
    return running(settings, memory=True)


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_becomes_a_dead_letter_and_delays_nobody(kind: str, tmp_path: Path) -> None:
    """The record is kept with its cause; an order placed after it, and one of the same key, end as ever."""
    fields, published = GARBAGE[kind]
    record = garbage(**fields)
    async with opened(tmp_path) as app:
        await app.backend.log.append("order", [record])
        await app.publisher.publish("order", placed(1))
        dead_letters: list[DeadLetter] = await until(app, app.backend.dead_letters.list)
        assert published in dead_letters[0].cause
        assert dead_letters[0].record.event.data == record.data
        await until(app, lambda: _ended(app, "o-1", "completed"))


async def test_poison_delays_its_own_key_only(tmp_path: Path) -> None:
    """A hundred poisoned starts among a hundred good ones: each good one completes, each bad one is kept."""
    async with opened(tmp_path) as app:
        for number in range(100):
            await app.backend.log.append("order", [garbage(key=f"bad-{number}", data=b"\x00")])
            await app.publisher.publish("order", placed(number * 20))
        await until(app, lambda: _counts(app, completed=100))
        await until(app, lambda: _dead_letters(app, 100))


async def test_a_start_that_nobody_can_read_is_given_up_and_says_why(tmp_path: Path) -> None:
    """The step that could not read it starts compensation, and the run ends with nothing to undo."""
    async with opened(tmp_path) as app:
        await app.backend.log.append("order", [garbage(data=b"{", content_type=JSON)])
        await until(app, lambda: _ended(app, "bad", "compensated"))
        view = await app.backend.read_model.instance("order", "bad")
        assert view is not None
        assert view.cause.startswith("inventory.reserve failed")


async def test_a_record_by_a_producer_that_sets_only_key_type_and_json_takes_part(tmp_path: Path) -> None:
    """No id, no run, no headers of ours: the order is worked like any other."""
    start = OrderPlaced(order_id="foreign", amount=5, declined=False).model_dump_json().encode()
    async with opened(tmp_path) as app:
        await app.backend.log.append("order", [garbage(key="foreign", data=start, content_type=JSON)])
        await until(app, lambda: _ended(app, "foreign", "completed"))


async def _ended(app: App, key: str, status: str) -> bool:
    view = await app.backend.read_model.instance("order", key)
    return view is not None and view.status == status


async def _counts(app: App, **wanted: int) -> bool:
    counts = await app.backend.read_model.counts("order")
    return all(counts.get(status) == number for status, number in wanted.items())


async def _dead_letters(app: App, number: int) -> bool:
    return await app.backend.dead_letters.count() == number
