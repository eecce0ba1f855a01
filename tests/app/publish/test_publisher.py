"""Publishing from outside: ids that collapse, keys that are read from the event, and refusals."""

import asyncio
from typing import Any, ClassVar

import pytest

from choreo.app.limits import checked_key
from choreo.app.publish.publisher import LOOKED_BACK
from choreo.core import ids
from choreo.core.errors import ConflictError, DecodeError, NotFoundError, SchemaError
from choreo.testing.clock import VirtualClock
from tests.app.harness import OrderPlaced, PaymentCharged, ShipmentPicked, Shop, StockReserved


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


async def test_a_start_is_known_by_flow_key_and_idempotency_key(shop: Shop) -> None:
    """Its id is derived, and is its run; hops are 0."""
    receipt = await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="k", traceparent="t")
    assert receipt.id == receipt.run == ids.start("order", "o-1", "k")
    (record,) = await shop.backend.read_model.history("order", "o-1")
    event = record.event
    assert (event.run, event.hops, event.traceparent, record.position) == (receipt.id, 0, "t", receipt.position)


async def test_the_same_start_is_answered_with_the_first_ones_receipt(shop: Shop) -> None:
    """Also before the tracker has seen it; the log holds it once."""
    first = await shop.publisher.publish("order", OrderPlaced(order_id="o-1"))
    again = await shop.publisher.publish("order", {"order_id": "o-1"}, type_="OrderPlaced")
    assert (again.id, again.position, again.duplicate) == (first.id, first.position, True)
    assert len(await shop.backend.read_model.history("order", "o-1")) == 1


async def test_the_same_start_is_known_however_far_the_views_are(shop: Shop) -> None:
    """Of a run that is shown the start is looked for in the whole history, of others only behind the views."""
    first = await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="1")
    await shop.track()
    for number in ("2", "3"):
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key=number)
    again = [
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key=number) for number in "123"
    ]
    assert [receipt.duplicate for receipt in again] == [True, True, True]
    assert again[0].position == first.position
    await shop.backend.read_model.drop("order")
    unseen = await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="1")
    assert (unseen.duplicate, unseen.position) == (True, first.position)
    assert len(await shop.backend.read_model.history("order", "o-1")) == 3


async def test_the_same_start_with_other_fields_is_no_duplicate_but_a_mistake(shop: Shop) -> None:
    """Silence would lose the second order."""
    await shop.publisher.publish("order", OrderPlaced(order_id="o-1"))
    with pytest.raises(ConflictError, match="another Idempotency-Key"):
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1", cents=5))


async def test_an_event_from_outside_is_one_with_an_idempotency_key_and_new_without(shop: Shop) -> None:
    """A derived id collapses in every reader; a fresh one does not."""
    await shop.charged("o-1")
    picked = ShipmentPicked(order_id="o-1")
    derived = [await shop.publisher.publish("order", picked, idempotency_key="k") for _ in range(2)]
    fresh = [await shop.publisher.publish("order", picked) for _ in range(2)]
    assert len({receipt.id for receipt in derived}) == 1
    assert len({receipt.id for receipt in fresh}) == 2
    await shop.track()
    assert shop.run("o-1").waits == []


async def test_an_event_may_name_its_run(shop: Shop) -> None:
    """A run that is not there would make a ghost of one in the state."""
    run = await shop.start("o-1")
    assert (await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), run=run)).run == run
    with pytest.raises(NotFoundError, match="there is no run 'nope'"):
        await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), run="nope")


async def test_the_key_may_stand_in_the_fields_or_be_given(shop: Shop) -> None:
    """One that contradicts the event is refused."""
    assert (await shop.publisher.publish("order", {}, type_="OrderPlaced", key="o-1")).key == "o-1"
    with pytest.raises(DecodeError, match="about 'o-2', not about the given key 'o-1'"):
        await shop.publisher.publish("order", OrderPlaced(order_id="o-2"), key="o-1")


async def test_what_steps_say_comes_through_no_door_but_by_force(shop: Shop) -> None:
    """A made-up outcome would be believed; a test may make one up."""
    with pytest.raises(ConflictError, match=r"StockReserved is published by stock\.reserve"):
        await shop.publisher.publish("order", StockReserved(order_id="o-1"))
    assert (await shop.publisher.publish("order", StockReserved(order_id="o-1"), force=True)).type == "StockReserved"


@pytest.mark.parametrize(
    ("event", "published"),
    [
        ({"order_id": "o-1", "cents": float("nan")}, "cannot be written as JSON"),
        ({"order_id": "o-1", ("a", 1): 2}, "cannot be written as JSON"),
        ({"order_id": "o-1", "cents": "many"}, r"OrderPlaced\.cents"),
        ({}, r"OrderPlaced\.order_id"),
        (object(), "'object' is no event of this flow"),
    ],
)
async def test_a_bad_event_names_its_field(shop: Shop, event: Any, published: str) -> None:
    """It is refused before it stands in the log for ever."""
    with pytest.raises(DecodeError, match=published):
        await shop.publisher.publish("order", event, type_="OrderPlaced")


@pytest.mark.parametrize("key", ["", ".", "..", "a\x00b", "a\x1fb", "a\nb", "\x7f", "\ud800", "x" * 513])
def test_a_key_that_could_not_be_asked_for_is_refused(key: str) -> None:
    """Control characters, dot names, half surrogate pairs, and texts instead of identifiers."""
    with pytest.raises(DecodeError):
        checked_key(key)


@pytest.mark.parametrize("key", ["o-1", "a/b", "...", "ä€😀", " ", "50%", "x" * 512])
def test_every_other_key_is_taken(key: str) -> None:
    """Any printable text is a key."""
    assert checked_key(key) == key


@pytest.mark.parametrize("allow_early", [False, True])
async def test_an_event_from_outside_for_a_key_without_a_run_is_refused(shop: Shop, allow_early: bool) -> None:
    """Nothing would ever come of it, unless its sender wants it in the log all the same."""
    await shop.start("another")
    picked = ShipmentPicked(order_id="o-1")
    if allow_early:
        assert (await shop.publisher.publish("order", picked, allow_early=True)).type == "ShipmentPicked"
        return
    with pytest.raises(NotFoundError) as refused:
        await shop.publisher.publish("order", picked)
    assert refused.value.sentence == (
        "flow order, key 'o-1': there is no run that could take ShipmentPicked. Start one with OrderPlaced. "
        "To publish it all the same: `--allow-early`, `?allow_early=true`."
    )


async def test_an_event_that_comes_before_its_wait_is_taken(shop: Shop) -> None:
    """It is kept and satisfies the wait when it opens."""
    await shop.start("o-1")
    await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"))
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    await shop.outcome("payment.charge", PaymentCharged(order_id="o-1"))
    assert shop.run("o-1").waits == []


@pytest.mark.parametrize(
    ("comes_to", "cause"),
    [
        ("completed", "the run has ended (completed)"),
        ("compensated", "the run has ended (compensated)"),
        ("stuck", "the run is compensating (payment.charge failed: PaymentDeclined)"),
        ("picked", "the wait for it is over"),
        ("timed out", "the run is compensating"),
    ],
)
async def test_an_event_that_nobody_awaits_any_more_is_refused(shop: Shop, comes_to: str, cause: str) -> None:
    """By its key and by its run; another run of the key may still take it."""
    await run_that(shop, comes_to)
    for run in ("", shop.run("o-1").id):
        with pytest.raises(ConflictError, match="nothing awaits ShipmentPicked any more") as refused:
            await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), run=run)
        assert cause in refused.value.sentence
    if comes_to == "completed":
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="once more")
        await shop.track()
        await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"))


async def run_that(shop: Shop, comes_to: str) -> None:
    """Play a run of o-1 that takes no pick any more."""
    if comes_to in ("picked", "timed out"):
        await shop.charged("o-1")
    if comes_to == "picked":
        await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"))
        await shop.track()
    elif comes_to == "timed out":
        await shop.pass_due("o-1", 25 * 3_600)
    else:
        await getattr(shop, comes_to)("o-1")


async def test_an_event_sent_again_under_its_idempotency_key_is_no_conflict(shop: Shop) -> None:
    """Its sender may not have heard the first answer, and its wait is over since."""
    await shop.charged("o-1")
    first = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), idempotency_key="k")
    await shop.track()
    again = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), idempotency_key="k")
    assert (again.id, again.position, again.duplicate) == (first.id, first.position, True)


async def test_a_read_model_that_lags_refuses_nothing(shop: Shop) -> None:
    """A read model that lags does not know a new run yet, so an absent run is no reason to refuse."""
    assert isinstance(shop.clock, VirtualClock)
    await shop.publisher.publish("order", OrderPlaced(order_id="o-1"))
    publishing = asyncio.create_task(shop.publisher.publish("order", ShipmentPicked(order_id="o-1")))
    while not publishing.done():
        await shop.clock.advance(0.1)
    assert (await publishing).type == "ShipmentPicked"


async def test_an_event_that_leaves_no_room_for_later_ones_is_refused(shop: Shop) -> None:
    """Later events repeat its content and add more; the log would refuse those, when no caller waits any more."""
    shop.backend.log.bound = 100
    await shop.publisher.publish("order", OrderPlaced(order_id="o" * 20))
    with pytest.raises(ConflictError, match="does not fit into the log, which takes 75"):
        await shop.publisher.publish("order", OrderPlaced(order_id="o" * 40))


async def test_an_event_from_outside_sent_again_is_said_to_be_one_and_with_other_fields_a_mistake(shop: Shop) -> None:
    """As with a start: without an error the second one's content would be lost."""
    await shop.charged("o-1")
    first = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), idempotency_key="k")
    again = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), idempotency_key="k")
    assert (again.id, again.position, again.duplicate) == (first.id, first.position, True)
    with pytest.raises(ConflictError, match="published before, with other fields"):
        await shop.publisher.publish("order", ShipmentPicked(order_id="o-1", picked_by="bob"), idempotency_key="k")


async def test_an_object_of_a_subclass_is_refused(shop: Shop) -> None:
    """Its further fields would be read by nobody."""

    class Special(OrderPlaced):
        event_type: ClassVar[str] = "OrderPlaced"
        discount: int = 0

    with pytest.raises(DecodeError, match="of another class"):
        await shop.publisher.publish("order", Special(order_id="o-1", discount=5))
    assert await shop.backend.read_model.history("order", "o-1") == []


async def test_an_object_that_was_copied_with_other_values_is_published_as_declared_or_not_at_all(shop: Shop) -> None:
    """A copy with an update is not validated by its class."""
    with pytest.raises(SchemaError, match=r"OrderPlaced\.cents: is not as declared"):
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1").model_copy(update={"cents": 1.5}))
    assert not await shop.backend.read_model.history("order", "o-1")
    receipt = await shop.publisher.publish("order", OrderPlaced(order_id="o-1").model_copy(update={"cents": 5}))
    assert receipt.key == "o-1"


async def test_a_repeated_event_from_outside_is_looked_for_among_the_newest_runs(shop: Shop) -> None:
    """However many runs its key has had, one page is read."""
    for number in range(LOOKED_BACK + 3):
        await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key=str(number))
    await shop.track()
    about = {"idempotency_key": "picked", "allow_early": True}
    first = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), **about)
    again = await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"), **about)
    assert (first.duplicate, again.duplicate, again.position) == (False, True, first.position)
