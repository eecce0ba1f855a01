"""Operator actions: the fact that is published, its effect in the fold, and the refusals with their remedies."""

from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Receipt
from choreo.app.query.flows import Flows
from choreo.core import facts, ids
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.events import Envelope, Record
from choreo.core.state import RESOLVED
from choreo.ports.dead_letters import DeadLetter
from tests.app.harness import OrderPlaced, PaymentDeclined, Shop, StockReserved

Act = Callable[[Shop], Awaitable[Receipt]]


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


async def test_pauses_and_resumes_are_one_series(shop: Shop) -> None:
    """Numbers rise; two operators that pause at once publish one fact."""
    run = await shop.start("o-1")
    twice = [await shop.operator.pause("order", "o-1") for _ in range(2)]
    assert [receipt.id for receipt in twice] == [ids.of_run("pause", run, 1)] * 2
    await shop.track()
    assert (await shop.operator.resume("order", "o-1")).id == ids.of_run("pause", run, 2)
    await shop.track()
    assert (await shop.operator.pause("order", "o-1", run=run)).id == ids.of_run("pause", run, 3)
    await shop.track()
    assert shop.run("o-1").shown == "paused"


async def test_a_cancel_turns_and_a_terminate_ends(shop: Shop) -> None:
    """Their reasons become the cause."""
    for key in ("o-1", "o-2"):
        await shop.charged(key)
    await shop.operator.cancel("order", "o-1", reason="asked by the customer")
    await shop.operator.terminate("order", "o-2", reason="a test that went astray")
    await shop.track()
    assert (shop.run("o-1").status, shop.run("o-1").cause) == ("compensating", "cancelled: asked by the customer")
    assert (shop.run("o-2").status, shop.run("o-2").cause) == ("terminated", "a test that went astray")


async def test_a_failed_undo_is_tried_again_in_a_new_round_each_time(shop: Shop) -> None:
    """Each retry has an id of its own, however often it fails."""
    await shop.stuck("o-1")
    first = await shop.operator.retry_compensation("order", "o-1", "stock.reserve")
    await shop.track()
    await shop.compensation_failed("o-1", "locked still")
    second = await shop.operator.retry_compensation("order", "o-1", shop.run("o-1").ledger[0].id)
    await shop.track()
    assert first.id != second.id
    assert (shop.run("o-1").status, shop.run("o-1").ledger[0].round) == ("compensating", 3)


async def test_an_undo_resolved_by_hand_lets_the_run_end(shop: Shop) -> None:
    """The reason stays in the ledger."""
    await shop.stuck("o-1")
    await shop.operator.resolve_compensation("order", "o-1", "stock.reserve", reason="counted")
    await shop.track()
    assert (shop.run("o-1").status, shop.run("o-1").ledger[0].state) == ("compensated", RESOLVED)


async def in_doubt(shop: Shop) -> None:
    """Play a run that is stuck on a payment in doubt, whose gateway bars no keys."""
    await shop.start("o-1")
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    await shop.outcome("payment.charge", PaymentDeclined(order_id="o-1"), certain=False)


async def duplicate(shop: Shop) -> None:
    """Play a key with two open runs."""
    await shop.start("o-1")
    await shop.publisher.publish("order", OrderPlaced(order_id="o-1"), idempotency_key="k-2")
    await shop.track()


async def completing(shop: Shop) -> None:
    """Play a run that has decided to complete, and is paused so that it has not ended."""
    await shop.charged("o-1")
    run = shop.run("o-1")
    run.completing = True
    await shop.operator.pause("order", "o-1")
    await shop.track()


REFUSED: list[tuple[str, Act, type[Exception], str]] = [
    ("nothing", lambda shop: shop.operator.pause("order", "o-1"), NotFoundError, "there is no such instance"),
    ("start", lambda shop: shop.operator.pause("nope", "o-1"), NotFoundError, "Known here: order"),
    ("start", lambda shop: shop.operator.pause("order", "o-1", run="r"), NotFoundError, "there is no run 'r'"),
    ("start", lambda shop: shop.operator.resume("order", "o-1"), ConflictError, "the run is not paused"),
    ("start", lambda shop: shop.operator.terminate("order", "o-1", reason=" "), DecodeError, "a reason is required"),
    ("start", lambda shop: shop.operator.cancel("order", "o-1", reason="a\x00"), DecodeError, "control character"),
    ("completed", lambda shop: shop.operator.cancel("order", "o-1"), ConflictError, "has ended: completed"),
    ("completing", lambda shop: shop.operator.cancel("order", "o-1"), ConflictError, "decided to complete"),
    ("completing", lambda shop: shop.operator.pause("order", "o-1"), ConflictError, "paused already"),
    ("duplicate", lambda shop: shop.operator.pause("order", "o-1"), ConflictError, "2 open runs"),
    ("stuck", lambda shop: shop.operator.cancel("order", "o-1"), ConflictError, "compensating already"),
    (
        "stuck",
        lambda shop: shop.operator.retry_compensation("order", "o-1", "nope"),
        NotFoundError,
        "Its entries: stock",
    ),
    (
        "in_doubt",
        lambda shop: shop.operator.retry_compensation("order", "o-1", "payment.charge"),
        ConflictError,
        "by hand",
    ),
    (
        "charged",
        lambda shop: shop.operator.retry_compensation("order", "o-1", "payment.charge"),
        ConflictError,
        "is open",
    ),
]


@pytest.mark.parametrize(
    ("situation", "act", "error", "published"), REFUSED, ids=lambda value: getattr(value, "__name__", str(value))[:40]
)
async def test_what_does_not_fit_is_refused(
    shop: Shop, situation: str, act: Act, error: type[Exception], published: str
) -> None:
    """The error names the cause and the remedy."""
    own = {"nothing": None, "in_doubt": in_doubt, "duplicate": duplicate, "completing": completing}
    if situation in own:
        prepare = own[situation]
        if prepare:
            await prepare(shop)
    else:
        await getattr(shop, situation)("o-1")
    with pytest.raises(error, match=published):
        await act(shop)


def dead_letter(event: Envelope, step: str = "") -> DeadLetter:
    """Return a dead letter about this event."""
    record = Record("order", 1, 7, 5, event)
    return DeadLetter("l-1", "order", 1, 7, step.partition(".")[0] or "tracker", step, "no good", 5, record)


async def test_a_letter_of_a_step_goes_to_that_step_under_the_old_id(shop: Shop) -> None:
    """The fact names the record by its id and offset; a second redrive is another fact."""
    run = await shop.start("o-1")
    await shop.backend.dead_letters.add(
        [dead_letter(Envelope(run, "OrderPlaced", "o-1", "order", run), "stock.reserve")]
    )
    first, second = [await shop.operator.redrive("l-1") for _ in range(2)]
    fact = (await shop.backend.read_model.history("order", "o-1"))[-1].event
    assert (fact.type, fact.step, fact.trigger, fact.outcome, fact.run) == (
        facts.REDRIVEN,
        "stock.reserve",
        run,
        7,
        run,
    )
    assert first.id != second.id
    assert (await shop.queries.dead_letter("l-1")).redriven == 2


async def test_a_letter_of_a_step_that_only_an_older_version_has_goes_to_it(shop: Shop) -> None:
    """The fact carries the version of the run, also where the event from outside names another one."""
    run, first = await shop.start("o-1"), shop.table.flow
    second = replace(first, version=2, steps=tuple(step for step in first.steps if step.name != "stock.reserve"))
    flows = Flows({"order": replace(second, frozen=(first, second))}, {})
    backend = shop.backend
    operator = Operator(flows, backend.log, backend.read_model, backend.dead_letters, shop.clock)
    event = Envelope(run, "OrderPlaced", "o-1", "order", run, version=2)
    await backend.dead_letters.add([dead_letter(event, "stock.reserve")])
    await operator.redrive("l-1")
    fact = (await backend.read_model.history("order", "o-1"))[-1].event
    assert (fact.type, fact.step, fact.version) == (facts.REDRIVEN, "stock.reserve", 1)


async def test_a_letter_of_the_tracker_goes_to_the_log_with_what_was_inferred(shop: Shop) -> None:
    """A foreign event of a type declared since: its run and step are written now."""
    run = await shop.start("o-1")
    foreign = Envelope(
        "", "StockReserved", "o-1", "order", content_type="application/json", data=b'{"order_id": "o-1"}'
    )
    await shop.backend.dead_letters.add([dead_letter(foreign)])
    await shop.operator.redrive("l-1")
    again = (await shop.backend.read_model.history("order", "o-1"))[-1].event
    assert (again.id, again.run, again.step) == (ids.foreign("order", 1, 7), run, "stock.reserve")


@pytest.mark.parametrize(
    ("event", "step", "published"),
    [
        (Envelope("e", facts.UNREADABLE, "", "order", reason="no number"), "", "headers cannot be read: no number"),
        (Envelope("e", "OrderPlaced", "", "order"), "", "it has no key"),
        (Envelope("e", "Nope", "o-1", "order"), "", "still no event of flow order"),
        (Envelope("e", "OrderPlaced", "o-1", "order"), "stock.gone", "no longer declared"),
        (Envelope("e", "OrderPlaced", "o-1", "order"), "stock.reserve", "its run is completed"),
    ],
)
async def test_a_letter_that_cannot_go_back_says_what_can_be_done(
    shop: Shop, event: Envelope, step: str, published: str
) -> None:
    """And is not counted as given back."""
    await shop.completed("o-1")
    run = shop.run("o-1").id
    if event.type == "OrderPlaced" and event.key:
        event = Envelope(run, event.type, event.key, event.flow, run)
    await shop.backend.dead_letters.add([dead_letter(event, step)])
    with pytest.raises(ConflictError, match=published):
        await shop.operator.redrive("l-1")
    assert (await shop.queries.dead_letter("l-1")).redriven == 0
