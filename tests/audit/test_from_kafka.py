"""The auditor's reading of Kafka: headers by name, foreign records by offset; and its findings about these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from tests.audit.auditor import Report, judge
from tests.audit.from_kafka import fact_of
from tests.audit.harness import Harness
from tests.audit.reading import Fact, read
from tests.audit.shape import Told

TOLD = Told(acknowledged={"OrderPlaced": "o"})


def message(**headers: str) -> Any:
    """Return a record at 3/7."""
    pairs = [(name, value.encode()) for name, value in headers.items()]
    return Message(
        topic="order", partition=3, offset=7, key=b"o", value=b"{}", headers=pairs, timestamp=(2, 1_000), error=None
    )


def stranger(harness: Harness, type_: str) -> Report:
    """Return the findings after a foreign record of this type, with a key and a type only, at the log's end."""
    evidence = read(harness.database)
    published = Fact(
        0, 90, 90_000, "by-position", type_, "o", "", "", "", "", certain=False, data=b"{}", is_foreign=True
    )
    return judge(replace(evidence, log=[*evidence.log, published]), harness.folder, TOLD)


def test_headers_are_read_by_their_names() -> None:
    """A timer fact of the tracker, with all that the auditor needs of it."""
    fact = fact_of(
        message(
            ce_id="i",
            ce_type="choreo.CompensationDeadlinePassed",
            ce_choreorun="r",
            ce_choreostep="payment.charge",
            ce_causationid="c",
            ce_choreoentry="e",
            ce_choreotrigger="t",
            ce_choreoround="2",
            ce_choreodue="900",
            ce_choreocertain="true",
        )
    )
    assert (fact.partition, fact.offset, fact.stamp_ms, fact.id, fact.key) == (3, 7, 1_000, "i", "o")
    assert (fact.run, fact.step, fact.causation, fact.entry, fact.trigger) == ("r", "payment.charge", "c", "e", "t")
    assert (fact.round, fact.due_ms, fact.certain, fact.is_foreign) == (2, 900, True, False)


def test_a_strangers_record_is_known_by_its_position() -> None:
    """Without an id the position makes one, as the design says; without a type nobody can read it."""
    fact = fact_of(message(ce_type="ShipmentPicked"))
    assert fact.is_foreign
    assert fact.id == "1e0f09f0-bb9f-87ba-9564-d092c006dad1"
    assert fact_of(message()).type == "unreadable"


def test_a_stranger_who_repeats_an_outcome_doubles_nothing(tmp_path: Path) -> None:
    """Nobody waits for it any more: the check is whether somebody acted on it."""
    harness = Harness(tmp_path)
    harness.append_completed()
    assert stranger(harness, "PaymentCharged").violations == []


def test_who_acts_on_a_strangers_repetition_is_found(tmp_path: Path) -> None:
    """A second shipment for the same charge."""
    harness = Harness(tmp_path)
    harness.append_completed()
    harness.run_sql("carrier", "INSERT INTO shipments VALUES ('t', 'o', 'booked')")
    found = stranger(harness, "PaymentCharged").violations
    assert "promise 2: order o: 2 shipments stand, 1 runs completed" in found


def test_an_operator_may_ask_again_for_an_undo_that_failed(tmp_path: Path) -> None:
    """Its second round undoes the effect; without the operator's word the request has nothing to undo."""
    harness = Harness(tmp_path)
    harness.append("OrderPlaced")
    harness.append("StockReserved", "OrderPlaced", step="inventory.reserve")
    harness.append("PaymentDeclined", "StockReserved", id="no", step="payment.charge", certain=1)
    harness.append("choreo.CompensationStarted", "no")
    harness.append_request("inventory.reserve", "OrderPlaced", "no")
    harness.append("choreo.CompensationFailed", "ask inventory.reserve", entry="inventory.reserve", round=1)
    harness.append(
        "choreo.CompensationRetryRequested", entry="inventory.reserve", step="inventory.reserve", id="please"
    )
    second = {"step": "inventory.reserve", "trigger": "OrderPlaced", "entry": "inventory.reserve", "round": 2}
    harness.append("choreo.CompensationRequested", "please", id="ask again", **second)
    harness.append("StockReleased", "ask again", step="inventory.reserve", entry="inventory.reserve", round=2)
    harness.append("choreo.FlowCompensated", "StockReleased")
    harness.show("compensated")
    harness.run_sql("warehouse", "INSERT INTO reservations VALUES (1, 'r', 'o', 'released')")
    harness.run_sql("warehouse", "INSERT INTO releases VALUES ('r')")
    assert judge(read(harness.database), harness.folder, TOLD).violations == []
    harness.run_sql("log", "UPDATE log SET type = 'choreo.StepAttemptFailed' WHERE id = 'please'")
    found = "\n".join(judge(read(harness.database), harness.folder, TOLD).violations)
    assert "asks to undo inventory.reserve though inventory.reserve had nothing open" in found
