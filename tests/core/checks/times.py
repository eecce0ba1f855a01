"""Durations that do not fit into each other, with the sentence their author reads."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.definition import FlowDefinition, RetryRule
from tests.core.plain import (
    CHARGE,
    CONFIRM,
    CONFIRM_PICKED,
    HOUR_MS,
    MINUTE_MS,
    PICK,
    RESERVE,
    STEPS,
    flow,
    with_undo,
)

ERRORS: dict[str, tuple[FlowDefinition, str]] = {
    "a flow shorter than a step": (
        flow(*STEPS, deadline_ms=30 * MINUTE_MS),
        (
            "flow order: its deadline of 30m is shorter than step stock.reserve, which may take 1h. "
            "Raise the flow's deadline, or lower that of step stock.reserve."
        ),
    ),
    "a flow shorter than a wait": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(replace(PICK, timeout_ms=5 * HOUR_MS),), deadline_ms=4 * HOUR_MS),
        (
            "flow order: its deadline of 4h is shorter than wait.Picked, which may take 5h. "
            "Raise the flow's deadline, or lower that of wait.Picked."
        ),
    ),
    "a heartbeat that an attempt cannot miss": (
        flow(RESERVE, replace(CHARGE, heartbeat_ms=30_000), CONFIRM),
        (
            "flow order, step payment.charge: its heartbeat of 30s is not shorter than the timeout of one attempt. "
            "Lower heartbeat=, or raise timeout=."
        ),
    ),
    "an attempt longer than its step": (
        flow(RESERVE, replace(CHARGE, timeout_ms=2 * HOUR_MS), CONFIRM),
        (
            "flow order, step payment.charge: one attempt may take 2h, longer than the deadline of 1h. "
            "Raise the deadline or lower the timeout."
        ),
    ),
    "an undo longer than its deadline": (
        flow(RESERVE, with_undo(timeout_ms=2 * HOUR_MS), CONFIRM),
        (
            "flow order, step payment.charge, its compensation: one attempt may take 2h, longer than the "
            "deadline of 1h. "
            "Raise the deadline or lower the timeout."
        ),
    ),
    "an attempt without time": (
        flow(RESERVE, replace(CHARGE, timeout_ms=0), CONFIRM),
        "flow order, step payment.charge: its timeout or deadline leaves no time. Give durations above 0.",
    ),
    "a wait without time": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(replace(PICK, timeout_ms=0),)),
        "flow order, wait.Picked: its timeout leaves no time. Give a duration above 0.",
    ),
    "no attempt at all": (
        flow(RESERVE, replace(CHARGE, retry=RetryRule(attempts_max=0)), CONFIRM),
        (
            "flow order, step payment.charge: its retry rule makes no sense. "
            "Give at least 1 attempt, backoff ≥ 1 and waits ≥ 0."
        ),
    ),
    "a deadline below 0": (
        flow(*STEPS, deadline_ms=-1),
        "flow order: its deadline or linger is below 0. Give a duration of at least 0.",
    ),
}

WARNINGS: dict[str, tuple[FlowDefinition, str]] = {
    "a flow shorter than its longest way": (
        flow(*STEPS, deadline_ms=2 * HOUR_MS),
        (
            "flow order: its deadline of 2h is shorter than its longest way, which may take 3h: "
            "stock.reserve, payment.charge, mail.confirm. Raise it to 3h, or lower the deadlines on that way."
        ),
    ),
}
