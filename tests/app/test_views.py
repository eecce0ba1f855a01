"""The projection of a run into a row: its columns, and that it reckons as the core does."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from choreo.app.tracking.views import attributes_of, detail_of, view
from choreo.core.errors import StorageError
from choreo.core.state import decode, encode
from choreo.core.timers import next_due
from choreo.testing.given import given
from tests.app.harness import PaymentDeclined, Shop, StockReserved
from tests.core.plain import flow, step

SITUATIONS = ["start", "charged", "completed", "compensated", "stuck"]


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_next_timer_of_a_row_is_that_of_the_core(situation: str) -> None:
    """`timers` of a detail names what the core only counts; here they are held together."""
    shop = await Shop().open()
    await getattr(shop, situation)("o-1")
    state = shop.states["o-1"]
    row = view(shop.table, 0, "o-1", state.runs[0])
    assert detail_of(row).next_due_ms == row.due_ms == next_due(state)


async def test_an_undo_under_way_and_a_pause_have_the_timers_of_the_core() -> None:
    """Paused, nothing is due; once compensation starts, the flow's deadline no longer counts."""
    shop = await Shop().open()
    await shop.start("o-1")
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    await shop.outcome("payment.charge", PaymentDeclined(order_id="o-1"), certain=True)
    instance = await shop.queries.instance("order", "o-1")
    assert instance.detail.next_due_ms == next_due(shop.states["o-1"]) > 0
    assert instance.next_timer == "the deadline of the undo of stock.reserve"
    await shop.operator.pause("order", "o-1")
    await shop.track()
    instance = await shop.queries.instance("order", "o-1")
    assert instance.detail.next_due_ms == next_due(shop.states["o-1"]) == 0


async def test_a_row_says_where_and_until_when_it_is_true() -> None:
    """Position and time are those of the last event that changed the run."""
    shop = await Shop().open()
    await shop.completed("o-1")
    run = shop.run("o-1")
    row = view(shop.table, 3, "o-1", run, {"customer": "ann"})
    assert (row.flow, row.key, row.run, row.status, row.partition) == ("order", "o-1", run.id, "completed", 3)
    assert (row.position, row.changed_ms, row.attributes) == (run.changed, run.ended_ms, {"customer": "ann"})


async def test_the_same_run_gives_the_same_bytes() -> None:
    """A rebuilt read model is compared byte for byte."""
    shop = await Shop().open()
    await shop.stuck("o-1")
    again = decode(encode(shop.states["o-1"])).runs[0]
    assert view(shop.table, 0, "o-1", shop.run("o-1")) == view(shop.table, 0, "o-1", again)


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (7, "7"), (1.5, "1.5"), (True, "true"), (False, "false"), (Decimal("9.90"), "9.90")],
)
def test_attributes_are_scalars_as_text(value: Any, text: str) -> None:
    """Composite and absent fields are left out."""
    assert attributes_of({"a": value, "items": [1], "address": {"street": "x"}, "note": None}) == {"a": text}


async def test_a_row_of_another_version_names_the_remedy() -> None:
    """The read model can always be rebuilt."""
    shop = await Shop().open()
    await shop.start("o-1")
    row = (await shop.queries.instance("order", "o-1")).row
    with pytest.raises(StorageError, match="choreo projections rebuild"):
        detail_of(msgspec.structs.replace(row, detail=b"{}"))


def test_a_run_that_may_complete_in_several_ways_shows_its_outcome() -> None:
    """Once the event of that way was read."""
    several = flow(step("a.pay", "OrderPlaced", "Paid", "Declined", effect=False), completes="Paid")
    several = replace(several, outcomes={"Paid": "paid", "Declined": "no money"})
    scenario = given(several, "OrderPlaced")
    assert detail_of(view(scenario.table, 0, "o-1", scenario.runs[0])).outcome == ""
    scenario.when("Declined")
    assert detail_of(view(scenario.table, 0, "o-1", scenario.runs[0])).outcome == "no money"
    assert scenario.runs[0].status == "completed"
