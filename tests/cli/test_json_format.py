"""The JSON of the command line is that of the REST view: the same names for the same things."""

from __future__ import annotations

from typing import Any

from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces import json_format as models


def test_an_instance_has_the_same_fields(desk: Any) -> None:
    """With its contents: expected steps, waits, effects."""
    desk.opened("t-1", seated=True)
    shown = desk("show", "t-1", "-o", "json").json
    assert set(shown) - {"timeline"} == set(models.InstanceAnswer.model_fields)
    assert set(shown["ledger"][0]) == set(models.EffectAnswer.model_fields)
    assert set(shown["waits"][0]) == set(models.WaitAnswer.model_fields)
    assert set(shown["timeline"][0]) == set(models.TimelineRowAnswer.model_fields)
    desk.opened("t-2")
    expected = desk("show", "t-2", "-o", "json").json["expected"]
    assert set(expected[0]) == set(models.ExpectedStepAnswer.model_fields)


def test_a_list_and_a_receipt_have_the_same_fields(desk: Any) -> None:
    """A script reads both in the same way."""
    receipt = desk("publish", "desk", "TicketOpened", "--key", "t-1", "-o", "json").json
    assert set(receipt) == set(models.ReceiptAnswer.model_fields)
    desk.fold()
    page = desk("list", "-o", "json").json
    assert set(page) == set(models.InstancePage.model_fields)
    assert set(page["items"][0]) == set(models.InstanceSummary.model_fields)


def test_a_dead_letter_has_the_same_fields() -> None:
    """With its record's headers and value."""
    record = Record("desk", 0, 0, 1, Envelope("x", "TicketOpened", "t-1", "desk"))
    dead_letter = DeadLetter("x", "desk", 0, 0, "seats", "seats.take", "broken", 1, record)
    assert set(models.dead_letter_and_record_of(dead_letter).model_dump()) == set(models.DeadLetterAnswer.model_fields)
