"""The steps of a flow as the product's own rules take them: specifications of handlers that never run, and a codec.

The abstract hosts decide by `choreo.app.steps.outcomes` and `choreo.adapters.inbox_rules`, as the real ones do; in
place of a handler the exploration chooses a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from choreo.app.steps.handlers import ChildStarts, HandlerSpec
from choreo.app.steps.jobs import Job, JobResult
from choreo.app.steps.outcomes import OutcomeFactory, StepRules
from choreo.core.definition import ATTEMPTS_MAX, FlowDefinition, RetryRule, StepDefinition
from choreo.core.flow_table import FlowTable

ATTEMPTS = 2
"""Attempts of a step that are explored: the first, and one after it. A third brings no rule that the second has not."""

CHILDREN_MAX = 3
"""Children of a step. A fourth brings no rule: a join counts, and is decided by one more or one less."""


class Made:
    """Base of the events that a handler of the exploration returns."""

    event_type = ""
    key = ""

    def __init__(self, data: bytes = b"") -> None:
        """Take the payload, as it is encoded."""
        self.data = data


class Payloads:
    """The codec of the exploration: an event has its payload as bytes already."""

    content_type = "application/json"

    def encode(self, value: Any) -> bytes:
        """Return the payload of an event."""
        return bytes(value.data)


class Rules(NamedTuple):
    """One step, or its compensation."""

    spec: HandlerSpec
    later: HandlerSpec | None
    """The same with every retry as a fact in the log; None where the declared waits are all short."""
    rules: StepRules
    successes: tuple[tuple[Made, ...], ...]
    """The results of a handler that has succeeded."""
    failures: tuple[Made, ...]

    def returned(self, job: Job, values: tuple[Made, ...]) -> JobResult:
        """Return the result of a handler that returned these events, or yielded these starts of children."""
        if self.spec.children is not None:
            return self.rules.planned(job, self.spec.children, list(values), 0)
        return self.rules.returned(job, list(values) or None, 0)


def event_class(type_: str) -> type[Made]:
    """Return a class of events of this type."""
    return type(type_, (Made,), {"event_type": type_})


def forward(table: FlowTable, step: StepDefinition, data: dict[str, tuple[bytes, ...]]) -> Rules:
    """Return the rules of a step; `data` gives the payloads to try for a type."""
    successes = {event_class(type_): type_ for type_ in step.emits}
    failures = {event_class(type_): type_ for type_ in step.fails}
    spec = HandlerSpec(
        step=step.name, handler=_never, is_async=False, takes={}, successes=successes, failures=failures, never=(),
        timeout_ms=step.timeout_ms, deadline_ms=step.deadline_ms, retry=_short(step.retry),
        once=step.name not in table.cyclic, hops_max=table.flow.hops_max,
    )  # fmt: skip
    returned = [[cls(each) for each in data.get(type_, (b"",))] for cls, type_ in successes.items()]
    return Rules(
        spec,
        _late(spec, step.retry),
        _rules(table, step),
        tuple(_results(returned, step.emits_all)) or ((),),
        tuple(cls() for cls in failures),
    )


def parental(table: FlowTable, step: StepDefinition, child: FlowDefinition) -> Rules:
    """Return the rules of a step that starts children of this flow, each in a batch of its own."""
    rules = forward(table, replace(step, emits=(child.starts,)), {})
    starts = ChildStarts(child.name, "key", child.starts, child.version, 1)
    made = event_class(child.starts)
    yields = []
    for place in range(_children(step)):
        start = made()
        start.key = child_key(place)
        yields.append(start)
    spec = replace(rules.spec, successes={made: child.starts}, children=starts)
    later = None if rules.later is None else replace(rules.later, children=starts)
    return rules._replace(spec=spec, later=later, successes=(tuple(yields),))


def child_key(place: int) -> str:
    """Return the key of a child."""
    return f"k-{place}"


def _children(step: StepDefinition) -> int:
    """Return the number of children: two, or as many as it takes to pass the bounds that the step declares."""
    rule = step.children
    assert rule is not None  # noqa: S101 - such a step has it
    bound = max(rule.tolerated, rule.first, rule.window)
    return min(CHILDREN_MAX, max(2, bound + 1))


def compensation(table: FlowTable, step: StepDefinition) -> Rules | None:
    """Return the rules of a step's compensation; None if it has none."""
    undo = step.compensation
    if undo is None:
        return None
    successes = {event_class(type_): type_ for type_ in undo.emits}
    spec = HandlerSpec(
        step=step.name, handler=_never, is_async=False, takes={}, successes=successes, failures={}, never=(),
        timeout_ms=undo.timeout_ms, deadline_ms=undo.deadline_ms, retry=_short(undo.retry), undo=True,
        takes_none=undo.takes_none, once=False, undoes=frozenset(step.emits),
    )  # fmt: skip
    return Rules(spec, _late(spec, undo.retry), _rules(table, step), tuple((cls(),) for cls in list(successes)[:1]), ())


def _results(returned: Sequence[Sequence[Made]], together: bool) -> Iterable[tuple[Made, ...]]:  # noqa: FBT001
    """Yield the possible results of a handler: one of its events, or all of them; several types also together."""
    if not together:
        for of_type in returned:
            yield from ((value,) for value in of_type)
    if len(returned) > 1 or together:
        yield from _product(returned)


def _product(returned: Sequence[Sequence[Made]]) -> Iterable[tuple[Made, ...]]:
    if not returned:
        yield ()
        return
    for value in returned[0]:
        yield from ((value, *others) for others in _product(returned[1:]))


def _rules(table: FlowTable, step: StepDefinition) -> StepRules:
    codec: Any = Payloads()
    return StepRules(OutcomeFactory(table.flow.name, step.service, codec, tracebacks=False))


def _short(retry: RetryRule) -> RetryRule:
    """Return the rule with few attempts, each soon after the last."""
    return replace(retry, attempts_max=min(ATTEMPTS, retry.attempts_max), inline_up_to_ms=ATTEMPTS_MAX)


def _late(spec: HandlerSpec, retry: RetryRule) -> HandlerSpec | None:
    """Return the specification with each retry as a fact in the log, where a declared wait is that long."""
    last = min(retry.attempts_max - 1, 64)
    if last < 1 or max(retry.delay_ms(1), retry.delay_ms(last)) <= retry.inline_up_to_ms:
        return None
    later = replace(spec.retry, initial_ms=1, interval_max_ms=1, inline_up_to_ms=0)
    return replace(spec, retry=later)


def _never(*_: Any) -> None:
    """Stand in for a handler: the exploration calls none."""
