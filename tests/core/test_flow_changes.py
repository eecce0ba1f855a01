"""Changes of a flow: those that a run in flight can bear, and those that need a new version."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from choreo.core.conditions import Otherwise
from choreo.core.definition import FlowDefinition, RetryRule
from choreo.core.flow_changes import FlowChange, flow_changes
from tests.core.order import ORDER, PICKED, but
from tests.core.plain import CHARGE, CONFIRM, HOUR_MS, PICK, RESERVE, STEPS, flow, step, undo

AGAIN = replace(CONFIRM, emits=("OrderConfirmed", "OrderQueried"))
QUERY = step("desk.answer", "OrderQueried", "OrderAnswered")
FLOW = flow(*STEPS)


def changes(before: FlowDefinition, now: FlowDefinition) -> list[FlowChange]:
    """Return the differences."""
    return flow_changes(before, now)


def test_an_unchanged_flow_has_no_change() -> None:
    """The time scale is a setting of a process, no part of the declaration."""
    assert changes(ORDER, ORDER) == []
    assert changes(PICKED, replace(PICKED, time_scale=60)) == []


BREAKING: dict[str, tuple[FlowDefinition, FlowDefinition, str]] = {
    "removed": (FLOW, flow(RESERVE, CHARGE), "step mail.confirm: it was removed"),
    "renamed": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, name="payment.take")),
        "step payment.charge: it was renamed to payment.take",
    ),
    "other trigger": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, on="OrderPlaced")),
        "step payment.charge: on is OrderPlaced, it was StockReserved",
    ),
    "emits taken away": (flow(RESERVE, CHARGE, AGAIN, QUERY), flow(*STEPS), "emits has OrderQueried no more"),
    "fails taken away": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, fails=())),
        "step payment.charge: fails has PaymentDeclined no more",
    ),
    "compensation taken away": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, compensation=None)),
        "step payment.charge: its compensation was taken away",
    ),
    "compensation added": (
        FLOW,
        flow(RESERVE, CHARGE, replace(CONFIRM, compensation=undo("OrderUnconfirmed"))),
        "step mail.confirm: it has a compensation now",
    ),
    "compensation refuses None": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, compensation=undo("PaymentRefunded", takes_none=False))),
        "whether it takes None is False, it was True",
    ),
    "deadline shorter": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, deadline_ms=HOUR_MS // 2)),
        "step payment.charge: deadline is 30m, it was 1h",
    ),
    "wait removed": (PICKED, replace(PICKED, waits=()), "wait.Picked: it was removed"),
    "wait shorter": (
        PICKED,
        replace(PICKED, waits=(replace(PICK, timeout_ms=HOUR_MS // 2),)),
        "wait.Picked: timeout is 30m, it was 1h",
    ),
    "wait elsewhere": (
        PICKED,
        replace(PICKED, waits=(replace(PICK, on="StockReserved"),)),
        "wait.Picked: on is StockReserved, it was PaymentCharged",
    ),
    "wait added on the way": (ORDER, replace(ORDER, waits=(PICK,)), "wait.Picked: it is new"),
    "step added on the way": (FLOW, flow(*STEPS, step("mail.thank", "PaymentCharged", "Thanked")), "it is new"),
    "deadline given": (FLOW, replace(FLOW, deadline_ms=HOUR_MS), "flow order: deadline is 1h, it was none"),
    "completes": (FLOW, replace(FLOW, completes="PaymentCharged"), "completes is PaymentCharged"),
    "fails of the flow": (FLOW, replace(FLOW, fails="OrderCancelled"), "fails is OrderCancelled, it was none"),
    "hops": (replace(FLOW, hops_max=9), replace(FLOW, hops_max=8), "max_hops is 8, it was 9"),
    "known event": (
        ORDER,
        but(ORDER, payment__charge=replace(CHARGE, fails=("PaymentDeclined", "StockRejected"))),
        "fails has StockRejected, too",
    ),
    "one more of all": (
        flow(RESERVE, CHARGE, replace(CONFIRM, emits_all=True)),
        flow(RESERVE, CHARGE, replace(AGAIN, emits_all=True), QUERY),
        "step mail.confirm: emits has OrderQueried, too",
    ),
    "condition": (
        FLOW,
        flow(RESERVE, CHARGE, replace(CONFIRM, when=Otherwise())),
        "step mail.confirm: when is",
    ),
    "join": (
        FLOW,
        flow(RESERVE, CHARGE, replace(CONFIRM, on="", all_of=("PaymentCharged", "StockReserved"))),
        "step mail.confirm: all_of is PaymentCharged, StockReserved, it was none",
    ),
    "cycle": (
        FLOW,
        flow(RESERVE, CHARGE, AGAIN, step("desk.again", "OrderQueried", "StockReserved")),
        "step payment.charge: it lies on a cycle now",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_change_that_a_run_in_flight_cannot_bear_is_named_with_its_reason(name: str) -> None:
    """The first finding says the place, both values and why."""
    before, now, sentence = BREAKING[name]
    breaking = [change for change in changes(before, now) if change.breaks]
    assert any(sentence in f"{change.where}: {change.what}" for change in breaking), breaking


COMPATIBLE: dict[str, tuple[FlowDefinition, FlowDefinition]] = {
    "retry": (ORDER, but(ORDER, payment__charge=replace(CHARGE, retry=RetryRule(attempts_max=9), timeout_ms=1_000))),
    "deadline longer": (ORDER, but(ORDER, payment__charge=replace(CHARGE, deadline_ms=2 * HOUR_MS))),
    "no deadline": (replace(FLOW, deadline_ms=HOUR_MS), FLOW),
    "wait longer": (PICKED, replace(PICKED, waits=(replace(PICK, timeout_ms=2 * HOUR_MS),))),
    "new way": (FLOW, flow(RESERVE, CHARGE, AGAIN, QUERY)),
    "new failure": (FLOW, flow(RESERVE, CHARGE, replace(CONFIRM, fails=("OrderUnconfirmed",)))),
    "hops": (replace(FLOW, hops_max=8), replace(FLOW, hops_max=9)),
    "linger": (FLOW, replace(FLOW, linger_ms=1)),
}


@pytest.mark.parametrize("name", COMPATIBLE)
def test_a_change_that_no_run_in_flight_can_need_breaks_nothing(name: str) -> None:
    """It is a difference all the same: the file of the version must be written again."""
    found: list[Any] = changes(*COMPATIBLE[name])
    assert found
    assert [change for change in found if change.breaks] == []
