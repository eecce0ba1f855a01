"""Flows as plain data for the tests of the checks: a sound one, and parts to spoil it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from choreo.core.checks.checks import check
from choreo.core.definition import (
    CompensationDefinition,
    FlowDefinition,
    ParameterDefinition,
    StepDefinition,
    WaitDefinition,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def undo(emits: str, **changes: Any) -> CompensationDefinition:
    """Return a compensation that takes None and bars."""
    sound = CompensationDefinition((emits,), takes_none=True, bars=True, timeout_ms=30_000, deadline_ms=HOUR_MS)
    return replace(sound, **changes)


def step(
    name: str,
    on: str,
    *emits: str,
    fails: str = "",
    undone: str = "",
    takes: Sequence[tuple[Any, ...]] = (),
    **changes: Any,
) -> StepDefinition:
    """Return a step of half a minute an attempt and an hour in all; `takes` gives its parameters' fields."""
    sound = StepDefinition(
        name=name,
        service=name.partition(".")[0],
        on=on,
        emits=emits,
        fails=(fails,) if fails else (),
        timeout_ms=30_000,
        deadline_ms=HOUR_MS,
        compensation=undo(undone) if undone else None,
        takes=tuple(ParameterDefinition(*each) for each in takes),
    )
    return replace(sound, **changes)


def flow(*steps: StepDefinition, **changes: Any) -> FlowDefinition:
    """Return a flow of these steps that lists every event with its key."""
    sound = FlowDefinition(
        name="order", key="order_id", starts="OrderPlaced", completes="OrderConfirmed", steps=steps, deadline_ms=0
    )
    changed = replace(sound, **changes)
    words = {changed.starts, *changed.ends, changed.fails} - {""}
    for part in changed.steps:
        words |= {
            *part.triggers,
            *(each.type for each in part.takes if each.type),
            *part.emits,
            *part.fails,
            *(part.compensation.emits if part.compensation else ()),
        }
    for wait in changed.waits:
        words |= {wait.on, *wait.answers, wait.late, wait.moved_by, *wait.says} - {""}
    return replace(changed, events={**dict.fromkeys(words, ("order_id",)), **changed.events})


RESERVE = step("stock.reserve", "OrderPlaced", "StockReserved", fails="StockRejected", undone="StockReleased")
CHARGE = step("payment.charge", "StockReserved", "PaymentCharged", fails="PaymentDeclined", undone="PaymentRefunded")
CONFIRM = step("mail.confirm", "PaymentCharged", "OrderConfirmed", effect=False)
TELL = step("mail.tell", "OrderCancelled")
PICK = WaitDefinition("wait.Picked", on="PaymentCharged", until="Picked", timeout_ms=HOUR_MS, fails="PickTimedOut")
CONFIRM_PICKED = replace(CONFIRM, on="Picked")
STEPS = (RESERVE, CHARGE, CONFIRM)


def with_undo(**changes: Any) -> StepDefinition:
    """Return the charge with its compensation changed."""
    return replace(CHARGE, compensation=undo("PaymentRefunded", **changes))


def published(level: str, flow: FlowDefinition) -> list[str]:
    """Return the checks' findings of that level about the flow."""
    return [finding.sentence for finding in check(flow) if finding.level == level]
