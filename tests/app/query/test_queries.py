"""Answers of the queries: the waits of a run, its history with a sentence for each fact, the lag of each group."""

import pytest

from choreo.app.query.read_your_writes import position_of, token_of
from choreo.app.query.timeline import _FACTS
from choreo.core import facts
from choreo.core.errors import DecodeError, NotFoundError
from choreo.core.events import Envelope, Position
from choreo.ports.read_model import Filter
from tests.app.harness import OrderPlaced, PaymentDeclined, Shop, StockReserved


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


async def test_what_a_run_waits_for_is_said_in_words(shop: Shop) -> None:
    """A step, an event from outside, an undo, an operator; nothing when it has ended."""

    async def waits(key: str) -> list[str]:
        return (await shop.queries.instance("order", key)).waiting_for

    await shop.start("step")
    await shop.charged("outside")
    await shop.stuck("person")
    await shop.completed("ended")
    assert await waits("step") == ["stock.reserve since 2026-01-01T00:00:00.000Z, until 2026-01-01T00:12:45.000Z"]
    assert await waits("outside") == ["ShipmentPicked from outside, until 2026-01-02T00:00:00.000Z"]
    assert await waits("person") == ["an operator to retry or resolve the undo of stock.reserve: the shelf is locked"]
    assert await waits("ended") == []
    await shop.operator.retry_compensation("order", "person", "stock.reserve")
    await shop.operator.pause("order", "person")
    await shop.track()
    assert await waits("person") == [
        "an operator to resume it: paused since 2026-01-01T00:00:00.000Z",
        "the undo of stock.reserve, round 2, until 2026-01-01T00:12:45.000Z",
    ]


async def test_a_retry_far_off_is_said_with_its_time(shop: Shop) -> None:
    """Which attempt failed, and when the next begins."""
    run = await shop.start("o-1")
    await shop.fact("o-1", facts.STEP_ATTEMPT_FAILED, step="stock.reserve", trigger=run, attempt=3)
    (sentence,) = (await shop.queries.instance("order", "o-1")).waiting_for
    assert sentence == "stock.reserve, attempt 3 failed, the next at 2026-01-01T00:00:04.000Z"


async def test_a_timeline_tells_the_way_there_and_back_with_durations(shop: Shop) -> None:
    """Each line has its time since the start; outcomes and compensations have their duration."""
    await shop.start("o-1")
    await shop.clock.advance(1.5)  # type: ignore[attr-defined]
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    await shop.clock.advance(0.5)  # type: ignore[attr-defined]
    await shop.outcome("payment.charge", PaymentDeclined(order_id="o-1", reason="no funds"), certain=True)
    rows = await shop.queries.timeline("order", "o-1")
    assert [(row.at_ms, row.kind, row.text, row.took_ms, row.compensation) for row in rows] == [
        (0, "start", "OrderPlaced started it", None, False),
        (1_500, "done", "stock.reserve done: StockReserved", 1_500, False),
        (2_000, "failed", "payment.charge failed: PaymentDeclined: no funds", 500, False),
        (2_000, "compensation", "compensation started: payment.charge failed: PaymentDeclined", None, False),
        (2_000, "undo", "undo of stock.reserve requested, round 1", None, True),
    ]


async def test_a_wait_that_ended_is_told_with_its_length(shop: Shop) -> None:
    """By the event that the tracker published for it."""
    await shop.charged("o-1")
    await shop.pass_due("o-1", 86_400)
    log_text = [row.text for row in await shop.queries.timeline("order", "o-1") if row.kind == "timer"]
    assert log_text == ["ShipmentPicked did not come within 1d: PickTimedOut: ShipmentPicked did not come in time"]


def test_every_fact_has_its_sentence() -> None:
    """A new fact of the core needs a sentence too."""
    names = {value for name, value in vars(facts).items() if name.isupper() and isinstance(value, str)}
    assert set(_FACTS) == names - {facts.PREFIX, facts.UNREADABLE}


async def test_a_history_shows_twins_and_what_cannot_be_read(shop: Shop) -> None:
    """People look here to find out why."""
    run = await shop.start("o-1")
    good = {"content_type": "application/json", "data": b'{"order_id": "o-1"}'}
    bad = {"content_type": "application/json", "data": b"{"}
    events = [
        Envelope(run, "OrderPlaced", "o-1", "order", run, **good),
        Envelope("e-1", "StockReserved", "o-1", "order", **bad),
    ]
    await shop.backend.log.append("order", events)
    _, duplicate, unreadable = await shop.queries.history("order", "o-1")
    assert duplicate.duplicate
    assert (unreadable.run, unreadable.fields) == (run, {})
    assert unreadable.unreadable.startswith("StockReserved: invalid JSON")
    assert len(await shop.queries.timeline("order", "o-1")) == 2


async def test_each_runs_history_is_its_own(shop: Shop) -> None:
    """An event that names no run belongs to the oldest that is open."""
    await shop.completed("o-1")
    first = shop.run("o-1").id
    second = (await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="k-2")).run
    foreign = Envelope(
        "e-1", "StockReserved", "o-1", "order", content_type="application/json", data=b'{"order_id": "o-1"}'
    )
    await shop.backend.log.append("order", [foreign])
    await shop.track()
    types = [row.type for row in await shop.queries.history("order", "o-1", run=second)]
    assert types == ["OrderPlaced", "StockReserved"]
    assert len(await shop.queries.history("order", "o-1", run=first)) == 6
    assert (await shop.queries.instance("order", "o-1")).runs == [first, second]
    assert shop.run("o-1").ledger[0].step == "stock.reserve"


async def test_lag_is_told_by_group_and_partition(shop: Shop) -> None:
    """Tracker and read model have none here; services that never ran lag by everything."""
    await shop.charged("o-1")
    lags = await shop.queries.lags("order")
    behind: dict[str, int] = {}
    for lag in lags:
        behind[lag.group] = behind.get(lag.group, 0) + lag.behind
    assert behind == {"tracker": 0, "read-model": 0, "desk": 3, "payment": 3, "stock": 3}


async def test_questions_about_what_is_not_there_say_so(shop: Shop) -> None:
    """Flows, keys and dead letters."""
    for question in (
        shop.queries.counts("nope"),
        shop.queries.lags("nope"),
        shop.queries.instances(Filter(flow="nope"), 10),
        shop.queries.history("order", "nobody"),
        shop.queries.timeline("order", "nobody"),
        shop.queries.dead_letter("l-1"),
        shop.queries.reached(Position("order", 0, 0), 1),
    ):
        with pytest.raises(NotFoundError):
            await question


def test_a_position_goes_there_and_back_as_a_token() -> None:
    """A text that is no token is refused."""
    assert position_of(token_of(Position("order", 3, 42))) == Position("order", 3, 42)
    for text in ("", "order", "order/x/1", "order/1/-1", "a b/1/1", "order/1/1\n", f"order/1/{'9' * 19}"):
        with pytest.raises(DecodeError, match="topic/partition/offset"):
            position_of(text)
