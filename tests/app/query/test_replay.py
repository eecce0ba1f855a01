"""Replay: an instance at each position of its log, and the differences to the present code and flow."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.adapters.recording import Head, RecordingFile, export
from choreo.app.query.installation import Installation
from choreo.app.query.past import Pasts, Until
from choreo.app.query.queries import Instance
from choreo.app.query.replay import Difference, Replay
from choreo.app.tracking.views import attributes_of
from choreo.core.definition import FlowDefinition
from choreo.core.errors import DecodeError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from tests.app.harness import (
    PARTITIONS,
    OrderPlaced,
    PaymentCharged,
    PaymentDeclined,
    Shop,
    StockReleased,
    StockReserved,
)


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


def recording(shop: Shop) -> Installation:
    """Return the shop as a recording."""
    backend = shop.backend
    return Installation(backend.log, backend.read_model, backend.dead_letters, shop.clock, "memory")


def attributes(shop: Shop, event: Envelope) -> dict[str, str]:
    """Return the filterable fields of a start."""
    return attributes_of(shop.codec.fields(OrderPlaced, event.content_type, event.data))


def pasts(shop: Shop) -> Pasts:
    """Return the past of the shop's orders."""
    return Pasts(shop.flows, recording(shop), shop.codec, lambda event: attributes(shop, event))


async def differences(
    shop: Shop, flow: FlowDefinition | None = None, *, log: RecordingFile | None = None
) -> tuple[Replay, list[Difference]]:
    """Return the replay of all orders under this flow, and its differences."""
    table = FlowTable(flow) if flow else shop.table
    again = Replay(table, log or recording(shop), lambda event: attributes(shop, event))
    return again, [each async for each in again.differences()]


def renamed(shop: Shop, step: str, name: str) -> FlowDefinition:
    """Return the flow with another name of a step."""
    flow = shop.table.flow
    return replace(flow, steps=tuple(replace(each, name=name) if each.name == step else each for each in flow.steps))


async def advance(shop: Shop, key: str, chance: random.Random) -> None:
    """Let something happen to the order that can happen to it now."""
    run = shop.run(key)
    expected = {each.step for each in run.expected}
    requested = [entry for entry in run.ledger if entry.state == "requested"]
    choice, operator = chance.random(), shop.operator
    if run.paused_ms and choice < 0.3:
        await operator.resume("order", key)
        await shop.track()
    elif run.shown == "running" and choice < 0.15:
        act = operator.pause if chance.random() < 0.7 else operator.cancel
        await act("order", key)
        await shop.track()
    elif choice < 0.25:
        await shop.pass_due(key, chance.choice((60, 3_600, 100_000)))
    elif requested and requested[0].step == "stock.reserve":
        await shop.undone(StockReleased(order_id=key))
    elif requested:
        await shop.compensation_failed(key, "the bank is closed")
    elif "stock.reserve" in expected:
        await shop.outcome("stock.reserve", StockReserved(order_id=key))
    elif "payment.charge" in expected:
        declined = chance.random() < 0.3
        event = PaymentDeclined(order_id=key) if declined else PaymentCharged(order_id=key)
        await shop.outcome("payment.charge", event, certain=declined)


@pytest.mark.parametrize("seed", range(12))
async def test_the_state_at_each_position_is_the_fold_of_the_log_up_to_it(shop: Shop, seed: int) -> None:
    """The views that the tracker wrote on the way are those that the past gives afterwards."""
    chance, keys = random.Random(seed), ["o-1", "o-2", "o-3"]
    written: list[tuple[str, int, Instance]] = []
    for key in keys:
        await shop.start(key)
    for _ in range(25):
        key = chance.choice(keys)
        await advance(shop, key, chance)
        end = await shop.backend.log.end("order", partition_of(key, PARTITIONS))
        written.append((key, end - 1, await shop.queries.instance("order", key)))
    for key, offset, then in written:
        assert (await pasts(shop).at("order", key, Until(offset))).instance == then, (key, offset)
    again, found = await differences(shop)
    assert not found
    assert again.runs == len(keys)


async def test_nothing_is_written(shop: Shop) -> None:
    """The log, the offsets and the views are the same afterwards."""
    await shop.stuck("o-1")
    await shop.charged("o-2")

    async def all_of_it() -> object:
        log, model = shop.backend.log, shop.backend.read_model
        ends = [await log.end("order", number) for number in range(PARTITIONS)]
        return ends, await log.committed("order", "tracker"), await model.digest("order")

    before = await all_of_it()
    await differences(shop, renamed(shop, "payment.charge", "payment.collect"))
    await pasts(shop).at("order", "o-1", Until(0))
    assert await all_of_it() == before


async def test_a_renamed_step_is_reported_for_the_runs_that_need_it(shop: Shop) -> None:
    """With the effect's name before and after; an order that has not reached the step has no difference."""
    await shop.charged("o-1")
    await shop.start("o-2")
    _, found = await differences(shop, renamed(shop, "payment.charge", "payment.collect"))
    assert {each.key for each in found} == {"o-1"}
    (effects,) = [each for each in found if each.about == "effects"]
    assert "payment.charge open" in effects.recorded
    assert "payment.collect open" in effects.replayed


async def test_a_step_without_its_compensation_decides_otherwise(shop: Shop) -> None:
    """The request in the log is one that the present flow would not make."""
    await shop.stuck("o-1")
    flow = shop.table.flow
    steps = tuple(replace(each, compensation=None, effect=False) for each in flow.steps)
    _, found = await differences(shop, replace(flow, steps=steps))
    assert any(each.kind == "decision" and each.replayed == "not decided" for each in found)


async def exported(shop: Shop, path: Path) -> None:
    """Export all orders."""
    source = recording(shop)
    head = Head(
        recording=1,
        flow="order",
        version=1,
        partitions=PARTITIONS,
        positions=await source.positions("order"),
        keys=[],
        as_of_ms=source.as_of_ms,
    )
    await export(source, head, path, lambda _: None)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an exported file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
async def file(shop: Shop, tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Return an exported order, and its lines."""
    await shop.charged("o-1")
    path = tmp_path / "order.jsonl"
    await exported(shop, path)
    return path, lines_of(path)


def rewritten(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Write these lines, the last one with their numbers."""
    lines[-1] = {"end": {name: sum(name[:-1] in line for line in lines) for name in ("records", "views")}}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


async def test_a_run_whose_start_is_gone_is_counted_and_not_compared(shop: Shop, file: Any) -> None:
    """Retention has removed it: nothing can be said about the run."""
    path, lines = file
    first = next(at for at, line in enumerate(lines) if "record" in line)
    log = RecordingFile(rewritten(path, lines[:first] + lines[first + 1 :]))
    again, found = await differences(shop, log=log)
    log.close()
    assert (again.truncated, again.runs, found) == (1, 0, [])


async def test_a_record_that_cannot_be_placed_is_reported(shop: Shop, file: Any) -> None:
    """A record without a key becomes a dead letter; one that the installation has set aside is no difference."""
    path, lines = file
    last = max((line["record"] for line in lines if "record" in line), key=lambda record: record["offset"])
    stray = {**last, "offset": last["offset"] + 1, "event": {**last["event"], "id": "stray", "key": ""}}
    log = RecordingFile(rewritten(path, [*lines[:-1], {"record": stray}, lines[-1]]))
    _, found = await differences(shop, log=log)
    log.close()
    (difference,) = found
    assert (difference.kind, difference.offset, difference.recorded) == ("record", stray["offset"], "not set aside")
    aside = {"dead_letter": [stray["partition"], stray["offset"]]}
    log = RecordingFile(rewritten(path, [lines[0], aside, *lines[1:-1], {"record": stray}, lines[-1]]))
    assert (await differences(shop, log=log))[1] == []
    log.close()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[: len(text) // 2], "it is damaged"),
        (lambda text: "\n".join(text.splitlines()[:-2]), "its end is missing"),
        (lambda text: text.replace('"recording":1', '"recording":9'), "format 9"),
        (lambda _: "no json\n", "it is no recording"),
        (lambda text: text.replace('"record":', '"recorded":', 1), "lines are missing"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(file: Any, damage: Any, why: str) -> None:
    """Half a history would be folded to another state."""
    path, _ = file
    path.write_text(damage(path.read_text()))
    with pytest.raises(DecodeError, match=why) as refused:
        RecordingFile(path)
    assert "line" in refused.value.where
