"""Which events are one: source, id and key of a foreign event, the derived id of one that choreo made."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import ids
from choreo.core.events import Envelope, Record
from choreo.core.identity import identified
from choreo.testing import elapsed, event, foreign, given
from tests.core.order import ORDER, PICKED


def record(offset: int = 0, **fields: str) -> Record:
    """Return a start that a shop's own program wrote."""
    values = {"id": "1", "type": "OrderPlaced", "key": "o-1", "flow": "order", "source": "shop-a"}
    return Record("order", 0, offset, 0, Envelope(**{**values, **fields}))


@pytest.mark.parametrize("other", [{"source": "shop-b"}, {"id": "2"}, {"key": "o-2"}])
def test_another_source_number_or_key_is_another_event(other: dict[str, str]) -> None:
    """Two producers may both number their events from 1; a run, and its slots, are named by its start."""
    assert identified(record()).id != identified(record(1, **other)).id


def test_the_same_source_number_and_key_is_the_same_event() -> None:
    """Wherever it stands, and also when it was published once more with the id by which it is known."""
    known = identified(record())
    assert identified(record(7)) == known
    assert identified(replace(record(8), event=known)) == known
    nameless = identified(record(id=""))
    assert nameless.id == ids.foreign("order", 0, 0)
    assert identified(replace(record(9), event=nameless)) == nameless


@pytest.mark.parametrize("source", ["", "choreo/payment", "choreo/publish"])
def test_what_choreo_made_keeps_its_id(source: str) -> None:
    """It is derived already, or the caller has given it."""
    assert identified(record(source=source)) == record(source=source).event


def test_two_sources_that_number_from_one_have_two_orders() -> None:
    """One after the other on one key: the second is no duplicate of the first."""
    placed = [event("OrderPlaced", id="1", source=source) for source in ("shop-a", "shop-b")]
    story = given(ORDER, placed[0], "StockReserved", "PaymentCharged", "OrderConfirmed").then(status="completed")
    story.when(placed[0]).then_nothing()
    assert len(story.runs) == 1
    story.when(placed[1])
    assert [run.status for run in story.runs] == ["completed", "running"]


def test_two_sources_that_number_from_one_answer_two_waits() -> None:
    """The second pick of a number is another pick."""
    picks = [foreign("Picked", id="1", source=source) for source in ("gate-a", "gate-b")]
    story = given(PICKED, "OrderPlaced", "StockReserved", "PaymentCharged", picks[0], "OrderConfirmed")
    story.when(event("OrderPlaced", id="again"), event("StockReserved", run="again"))
    story.when(event("PaymentCharged", run="again"), picks[0]).then(run="again", waits=["Picked"])
    story.when(picks[1]).then(run="again", waits=[], expected=["mail.confirm"])


def test_a_foreign_outcome_may_name_its_trigger_and_its_run_as_it_wrote_them() -> None:
    """A program that does both knows its own ids only."""
    placed = event("OrderPlaced", id="17", source="erp")
    story = given(ORDER, placed)
    run = story.runs[0].id
    assert run == ids.of_source(ORDER.name, "erp", "17", "order-1")
    story.when(foreign("StockReserved", id="18", source="erp", run="17", causation="17"))
    story.then(ledger={"stock.reserve": "open"}, expected=["payment.charge"])
    assert story.runs[0].ledger[0].id == ids.entry(run, "stock.reserve", run)
    story.when(foreign("PaymentCharged", id="3", source="bank", causation="18"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "open"}, expected=["mail.confirm"])


def test_a_late_foreign_outcome_finds_its_entry_in_doubt_by_the_id_it_knows() -> None:
    """Its expectation is gone; the entry remembers the trigger's own id."""
    story = given(ORDER, "OrderPlaced", foreign("StockReserved", id="18", source="erp"), elapsed("1h"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})
    story.when(foreign("PaymentCharged", id="3", source="bank", causation="18"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested"})


def test_an_outcome_that_names_the_run_by_choreos_id_belongs_to_it() -> None:
    """A worker in another language hands on the headers of the record it read."""
    story = given(ORDER, "OrderPlaced")
    run = story.runs[0].id
    story.when(foreign("StockReserved", id="5", source="java-worker", run=run, causation=run))
    story.then(expected=["payment.charge"], ledger={"stock.reserve": "open"})
