"""Checks of a flow's durations: an attempt within its step, a step within the flow."""

from __future__ import annotations

from collections.abc import Iterator

from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import Graph
from choreo.core.definition import CompensationDefinition, FlowDefinition, RetryRule, StepDefinition
from choreo.core.durations import human


def attempts(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that each attempt has time, and fits within its step's deadline."""
    for step in flow.steps:
        where = f"flow {flow.name}, step {step.name}"
        yield from _one(step, where)
        if step.heartbeat_ms < 0 or (step.heartbeat_ms and step.heartbeat_ms >= step.timeout_ms):
            what = f"its heartbeat of {human(step.heartbeat_ms)} is not shorter than the timeout of one attempt"
            yield Finding("C423", where, what, "Lower heartbeat=, or raise timeout=.")
        if step.compensation:
            yield from _one(step.compensation, f"{where}, its compensation")
    for wait in flow.waits:
        if wait.timeout_ms < 0 or not (wait.timeout_ms or wait.at or (wait.optional and not wait.late)):
            yield Finding(
                "C401", f"flow {flow.name}, {wait.name}", "its timeout leaves no time", "Give a duration above 0."
            )
    if flow.deadline_ms < 0 or flow.linger_ms < 0:
        yield Finding(
            "C421", f"flow {flow.name}", "its deadline or linger is below 0", "Give a duration of at least 0."
        )


def whole(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """Check that the flow's deadline leaves time for its steps and waits."""
    if not flow.deadline_ms or not graph.nodes:
        return
    slowest = max(graph.nodes.values(), key=lambda node: node.lasts_ms)
    length_ms, way = graph.longest()
    limit = f"its deadline of {human(flow.deadline_ms)} is shorter than"
    if flow.deadline_ms < slowest.lasts_ms:
        yield Finding(
            "C426",
            f"flow {flow.name}",
            f"{limit} {slowest.shown}, which may take {human(slowest.lasts_ms)}",
            f"Raise the flow's deadline, or lower that of {slowest.shown}.",
        )
    elif flow.deadline_ms < length_ms:
        yield Finding(
            "C427",
            f"flow {flow.name}",
            f"{limit} its longest way, which may take {human(length_ms)}: {', '.join(way)}",
            f"Raise it to {human(length_ms)}, or lower the deadlines on that way.",
        )


def _one(part: StepDefinition | CompensationDefinition, where: str) -> Iterator[Finding]:
    if part.timeout_ms <= 0 or part.deadline_ms <= 0:
        yield Finding("C421", where, "its timeout or deadline leaves no time", "Give durations above 0.")
    elif part.timeout_ms > part.deadline_ms:
        yield Finding(
            "C422",
            where,
            f"one attempt may take {human(part.timeout_ms)}, longer than the deadline of {human(part.deadline_ms)}",
            "Raise the deadline or lower the timeout.",
        )
    elif _sound(part.retry) and part.retry.attempts_max > 1:
        second_ms = 2 * part.timeout_ms + part.retry.delay_ms(1)
        if part.deadline_ms < second_ms:
            yield Finding(
                "C425",
                where,
                f"it may make {part.retry.attempts_max} attempts, and its deadline of {human(part.deadline_ms)} leaves "
                f"no time for a second one, which may take until {human(second_ms)}",
                "Raise the deadline, lower timeout=, or give Retry(max_attempts=1).",
            )
    if not _sound(part.retry):
        yield Finding(
            "C424", where, "its retry rule makes no sense", "Give at least 1 attempt, backoff ≥ 1 and waits ≥ 0."
        )


def _sound(rule: RetryRule) -> bool:
    waits = (rule.initial_ms, rule.interval_max_ms, rule.inline_up_to_ms)
    return rule.attempts_max >= 1 and rule.backoff >= 1 and min(waits) >= 0
