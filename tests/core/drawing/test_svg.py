"""The picture of a flow as SVG: all that is declared stands in it, in any order of names and with any text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from msgspec.structs import replace

from choreo.core.conditions import Compare
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.drawing.svg import svg
from choreo.core.fields import FieldType
from services.order_flow import order
from services.travel.trip_flow import trip
from tests.core.plain import CHARGE, CONFIRM_PICKED, PICK, RESERVE, TELL, flow, step

ORDER = flow(RESERVE, CHARGE, CONFIRM_PICKED, TELL, waits=(PICK,), fails="OrderCancelled")


def words_of(picture: str) -> list[str]:
    """Return the texts in a picture; it must be well-formed XML."""
    root = ET.fromstring(picture)  # noqa: S314 - made by the function under test
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [str(each.text) for each in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("definition", [ORDER, order.definition, trip.definition], ids=["plain", "order", "trip"])
def test_everything_declared_stands_in_the_picture(definition: FlowDefinition) -> None:
    """Steps, waits, events, the end and compensation, each once."""
    words = words_of(svg(definition))
    for name in [*(each.name for each in definition.steps), *definition.types, "completed", "compensation:"]:
        assert words.count(name) == 1, name
    for wait in definition.waits:
        assert any(wait.shown in each for each in words)
    assert svg(definition) == svg(definition)


def test_failures_and_undos_look_different() -> None:
    """Red and dashed, arrows too."""
    root = ET.fromstring(svg(ORDER))  # noqa: S314
    kinds = [each.get("class") for each in root if each.tag.endswith("path")]
    assert (kinds.count("failure"), kinds.count("undo")) == (7, 2)
    boxes = [each.get("class") for each in root if each.tag.endswith("rect")]
    assert (boxes.count("failure"), boxes.count("undo"), boxes.count("wait")) == (4, 2, 1)


def test_a_condition_and_a_join_stand_in_the_box_of_their_step() -> None:
    """Any text, also one that looks like markup."""
    condition = Compare("note", "==", '<b>&"x"\x00', type=FieldType("text"))
    joined = step("mail.both", "A", "OrderConfirmed", all_of=("A", "B"), when=condition)
    words = words_of(svg(flow(step("a.one", "OrderPlaced", "A", "B"), joined)))
    assert "needs all 2" in words
    assert any("<b>&" in each for each in words)


def test_a_cycle_and_a_long_text_are_drawn() -> None:
    """A timer that leads back, and a wait whose sentence needs several lines."""
    again = step("mail.again", "Reminded", "OrderPlacedAgain")
    wait = WaitDefinition(
        "wait.Approved",
        "OrderPlacedAgain",
        "Approved",
        3_600_000,
        "NotApproved",
        also=tuple(f"ApprovedBySomebodyElse{number}" for number in range(4)),
        remind="Reminded",
        remind_ms=60_000,
        reminds_max=3,
    )
    words = words_of(svg(replace(flow(again, waits=(wait,)), hops_max=5)))
    assert max(len(each) for each in words) < 60
    assert any(each.startswith("wait for Approved or") for each in words)


def test_a_flow_that_carries_and_one_without_steps_are_drawn() -> None:
    """An empty flow has its start and its end."""
    assert words_of(svg(flow())) == ["OrderPlaced", "OrderConfirmed", "completed"]
