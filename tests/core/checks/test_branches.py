"""Branches on data: gaps, overlaps, comparisons that never hold, and fields that are not there."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from choreo.core.checks.checks import check
from choreo.core.conditions import Among, AnyCondition, Compare, Either, Every, Missing, Not, Otherwise
from choreo.core.definition import FlowDefinition
from choreo.core.fields import FieldType
from tests.core.plain import flow, published, step

WAY = FieldType("text", values=("express", "standard", "pickup"))
WHOLE, AMOUNT = FieldType("number", whole=True), FieldType("number")
FLAG, NOTE, DAY = FieldType("truth"), FieldType("text", optional=True), FieldType("day")


def way(*values: str) -> Among:
    """Return the condition on the way of shipping."""
    return Among("way", values, WAY)


def count(op: Any, value: float | str, type_: FieldType = WHOLE) -> Compare:
    """Return a condition on a number."""
    return Compare("count", op, value, type_)


def branching(*conditions: AnyCondition | None, **changes: Any) -> FlowDefinition:
    """Return a flow with one step for each condition on the start event."""
    steps = [
        step(f"ship.s{place}", "OrderPlaced", "OrderConfirmed", effect=False, when=condition)
        for place, condition in enumerate(conditions)
    ]
    events = {"OrderPlaced": ("order_id", "way", "count", "flag", "note", "day")}
    return flow(*steps, events=events, **changes)


def findings(definition: FlowDefinition) -> list[str]:
    """Return every finding."""
    return [finding.sentence for finding in check(definition)]


SOUND: dict[str, FlowDefinition] = {
    "otherwise closes": branching(way("express"), Otherwise()),
    "all values are covered": branching(way("express"), way("standard", "pickup")),
    "whole numbers leave no gap": branching(count("<=", 2), count(">=", 3)),
    "an amount is split at one point": branching(count("<", "2.5", AMOUNT), count(">=", "2.5", AMOUNT)),
    "True and False": branching(Compare("flag", "==", True, FLAG), Not(Compare("flag", "==", True, FLAG))),
    "None is a value": branching(Missing("note", NOTE), Not(Missing("note", NOTE))),
    "days": branching(Compare("day", "<", "2026-01-01", DAY), Compare("day", ">=", "2026-01-01", DAY)),
    "the first of all days": branching(Compare("day", "<=", "0001-01-01", DAY), Otherwise()),
    "an addition beside a step on all": branching(None, Compare("flag", "==", True, FLAG)),
    "two questions": branching(way("express"), Compare("flag", "==", True, FLAG), Otherwise()),
}


@pytest.mark.parametrize("name", SOUND)
def test_branches_that_cover_every_value_once_are_sound(name: str) -> None:
    """Nothing is found; conditions on different fields may hold together."""
    assert findings(SOUND[name]) == []


WARNINGS: dict[str, tuple[FlowDefinition, str]] = {
    "a declared value is left over": (
        branching(way("express"), way("standard")),
        (
            "flow order, event OrderPlaced: none of its steps (ship.s0, ship.s1) runs where "
            'way is "pickup", and the run goes no further. Add a step with when=otherwise(), or widen a condition.'
        ),
    ),
    "another text is left over": (
        branching(Compare("note", "==", "a", NOTE), Missing("note", NOTE)),
        "runs where note is any other text",
    ),
    "None is left over": (
        branching(Compare("count", "<", 3, FieldType("number", optional=True)), count(">=", 3)),
        "runs where count is None",
    ),
    "a number is left over": (
        branching(count("<", 3), count(">", 3)),
        "runs where count is 3",
    ),
    "amounts between are left over": (
        branching(count("<=", 2, AMOUNT), count(">=", 3, AMOUNT)),
        "runs where count is 2.5",
    ),
    "a combination is left over": (
        branching(Every((way("express"), count("<", 3))), Every((Not(way("express")), count("<", 9)))),
        'runs where count is 3 and way is "express"',
    ),
    "two branches meet": (
        branching(count("<=", 3), count(">=", 3)),
        (
            "flow order, step ship.s0 and step ship.s1: both run on OrderPlaced where count is 3. "
            "Narrow one of the two conditions, or let one step do both."
        ),
    ),
    "a condition that always holds": (
        branching(Either((count("<", 3), count(">=", 3)))),
        "flow order, step ship.s0: count < 3 | count >= 3 holds for every value. Leave when= out.",
    ),
    "an otherwise that never holds": (
        branching(way("express", "standard"), way("pickup"), Otherwise()),
        (
            "flow order, step ship.s2: when=otherwise() never holds: the other conditions on OrderPlaced cover every "
            "value. Leave the step out, or narrow one of the others."
        ),
    ),
    "an otherwise beside nothing": (
        branching(Otherwise()),
        (
            "flow order, step ship.s0: when=otherwise(), and no other step on OrderPlaced has a condition, so that it "
            "always runs. Leave when= out, or give another step a condition."
        ),
    ),
    "too many combinations": (
        branching(
            *(Every(tuple(Compare(f"f{place}", "==", number, AMOUNT) for place in range(4))) for number in range(9)),
            Otherwise(),
        ),
        "flow order, steps on OrderPlaced: their conditions are not checked for gaps and overlaps",
    ),
}

ERRORS: dict[str, tuple[FlowDefinition, str]] = {
    "two comparisons that exclude each other": (
        branching(Every((count("<", 3), count(">", 3))), Otherwise()),
        "flow order, step ship.s0: it never runs: count < 3 & count > 3 holds for no value. Correct the comparison",
    ),
    "no value between two whole numbers": (
        branching(Every((count(">", 2), count("<", 3))), Otherwise()),
        "it never runs: count > 2 & count < 3 holds for no value",
    ),
    "a field that is not there": (
        branching(Compare("coutn", "<", 3, WHOLE), Otherwise()),
        "flow order, step ship.s0, when=: OrderPlaced has no field coutn. Did you mean count? Its fields: order_id",
    ),
    "a value of another kind": (
        branching(count("<", "many"), Otherwise()),
        "OrderPlaced.count is compared with 'many'. Compare it with a number.",
    ),
    "a value that is not declared": (
        branching(way("express", "air"), Otherwise()),
        "OrderPlaced.way is compared with 'air'",
    ),
    "a field without its type": (
        branching(Compare("count", "<", 3), Otherwise()),
        "the type of OrderPlaced.count is not given. Export the flow again.",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_gap_or_an_overlap_is_shown_with_a_value_that_falls_into_it(name: str) -> None:
    """The sentence names the steps, the value and the remedy."""
    definition, sentence = WARNINGS[name]
    if name == "too many combinations":
        definition = replace(
            definition, events={**definition.events, "OrderPlaced": ("order_id", "f0", "f1", "f2", "f3")}
        )
    assert not published("error", definition)
    assert any(sentence in finding for finding in published("warning", definition)), published("warning", definition)


@pytest.mark.parametrize("name", ERRORS)
def test_a_condition_that_cannot_hold_is_an_error(name: str) -> None:
    """Also in a flow that was loaded from a file that somebody has changed."""
    definition, sentence = ERRORS[name]
    assert any(sentence in finding for finding in published("error", definition)), published("error", definition)


def test_branches_of_which_only_one_runs_are_not_beside_each_other() -> None:
    """A step need not be undone when a step of the other branch fails; of branches that both run it must."""
    air = step("air.fly", "OrderPlaced", "Flown", when=way("express"))
    road = step("road.drive", "OrderPlaced", "Driven", fails="NoRoad", when=Otherwise())
    ends = (
        step("mail.a", "Flown", "OrderConfirmed", effect=False),
        step("mail.b", "Driven", "OrderConfirmed", effect=False),
    )
    events = {"OrderPlaced": ("order_id", "way")}
    assert not published("error", flow(air, road, *ends, events=events))
    both = replace(road, when=None)
    (error,) = published("error", flow(air, both, *ends, events=events))
    assert error.startswith("flow order, step air.fly: has no way back when step road.drive fails")
