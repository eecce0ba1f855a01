"""A flow as plain data: to JSON and back, durations divided, its transitions as tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo import Event, Service, StepContext
from choreo.core.definition import (
    CompensationDefinition,
    FlowDefinition,
    RetryRule,
    StepDefinition,
    WaitDefinition,
    export,
    load,
)
from choreo.core.errors import DeclarationError
from choreo.core.flow_table import FlowTable


class Placed(Event):
    """An order came in."""

    order_id: str


CHARGE = StepDefinition(
    name="payment.charge",
    service="payment",
    on="OrderPlaced",
    emits=("PaymentCharged",),
    fails=("PaymentDeclined",),
    timeout_ms=30_000,
    deadline_ms=600_000,
    retry=RetryRule(initial_ms=100, backoff=3.0, interval_max_ms=500, attempts_max=4),
    compensation=CompensationDefinition(
        ("PaymentRefunded",), takes_none=True, bars=True, timeout_ms=10, deadline_ms=20
    ),
)
CONFIRM = StepDefinition("mail.confirm", "mail", "Picked", ("OrderConfirmed",), (), 30_000, 60_000)
TELL = StepDefinition("mail.tell", "mail", "OrderCancelled", ("CustomerTold",), (), 30_000, 60_000)
NOTE = StepDefinition("mail.note", "mail", "CustomerTold", (), (), 30_000, 60_000)
PICK = WaitDefinition("wait.Picked", "PaymentCharged", "Picked", 3_600_000, "PickTimedOut")
FLOW = FlowDefinition(
    name="order",
    key="order_id",
    starts="OrderPlaced",
    completes="OrderConfirmed",
    steps=(CHARGE, CONFIRM, TELL, NOTE),
    waits=(PICK,),
    fails="OrderCancelled",
    deadline_ms=7_200_000,
    events={"OrderPlaced": ("order_id", "amount")},
)


def test_a_flow_survives_json() -> None:
    """A tracker loads the flow as the services declared it."""
    assert load(export(FLOW)) == FLOW


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "Input data was truncated"),
        (b'{"name": 5}', "Expected `str`, got `int` - at `$.name`"),
        (export(FLOW).replace(b'"deadline_ms": 600000', b'"deadline_ms": "1m"', 1), "at `$.steps[0].deadline_ms`"),
    ],
)
def test_a_damaged_export_says_where(text: bytes, what: str) -> None:
    """The path of the wrong value, and the command that writes a good one."""
    with pytest.raises(DeclarationError) as raised:
        load(text, "order.json")
    assert raised.value.sentence.startswith("order.json: ")
    assert what in raised.value.sentence
    assert raised.value.sentence.endswith("Export it again with `choreo flow export`.")


def test_scaling_divides_every_duration_and_nothing_else() -> None:
    """Time runs fast by shorter durations, never by another clock."""
    fast = FLOW.scaled(10)
    charge = fast.steps[0]
    assert (charge.timeout_ms, charge.deadline_ms) == (3_000, 60_000)
    assert (charge.retry.initial_ms, charge.retry.interval_max_ms, charge.retry.inline_up_to_ms) == (10, 50, 500)
    assert (charge.retry.attempts_max, charge.retry.backoff) == (4, 3.0)
    assert (fast.waits[0].timeout_ms, fast.deadline_ms, fast.linger_ms) == (360_000, 720_000, 60_480_000)
    assert (fast.name, fast.events) == (FLOW.name, FLOW.events)


def test_scaling_leaves_an_attempt_its_second() -> None:
    """A handler runs no faster: timeouts stop at a second, or where they were; deadlines where all fits, with lag."""
    charge = FLOW.scaled(10_000_000).steps[0]
    assert charge.compensation is not None
    assert (charge.timeout_ms, charge.deadline_ms) == (1_000, 4 * 1_000 + 3 * 1 + 30_000)
    assert (charge.compensation.timeout_ms, charge.compensation.deadline_ms) == (10, 20)


def test_scaling_leaves_the_flow_time_for_its_longest_part() -> None:
    """The flow's deadline stops where its steps' deadlines do, or the check would refuse what was declared well."""
    fast = FLOW.scaled(10_000_000)
    assert fast.deadline_ms == max(step.deadline_ms for step in fast.steps)


def test_scaling_leaves_no_wait_without_time_and_makes_no_deadline() -> None:
    """A duration stays at least 1 ms; 0 means none and stays none."""
    fast = replace(FLOW, deadline_ms=0).scaled(1e12)
    assert (fast.waits[0].timeout_ms, fast.deadline_ms) == (1, 0)
    assert FLOW.scaled(1) is FLOW


def test_the_waits_between_attempts_grow_up_to_the_longest() -> None:
    """100, 300, then 500 ms: initial · backoff^(n-1), at most the interval."""
    assert [CHARGE.retry.delay_ms(attempt) for attempt in (1, 2, 3)] == [100, 300, 500]
    assert CHARGE.retry.span_ms(1_000) == 4 * 1_000 + 100 + 300 + 500


def test_the_bound_of_a_run_is_its_longest_step_and_its_undos() -> None:
    """Promise 3 in milliseconds."""
    assert FLOW.compensation_bound_ms == 20
    assert FLOW.end_bound_ms == 600_020


def test_the_table_knows_what_each_event_means() -> None:
    """The source of an event decides whether it is a trigger or a reaction."""
    table = FlowTable(FLOW)
    assert {type_: [step.name for step in steps] for type_, steps in table.triggers.items()} == {
        "OrderPlaced": ["payment.charge"],
        "Picked": ["mail.confirm"],
    }
    assert table.reactions == {"mail.tell", "mail.note"}
    assert table.backward == {"PaymentDeclined", "PaymentRefunded", "PickTimedOut", "OrderCancelled", "CustomerTold"}
    assert table.opens == {"PaymentCharged": (PICK,)}
    assert table.satisfies == {"Picked": (PICK,)}
    assert table.timeouts == {"PickTimedOut": PICK}
    assert table.successes["OrderConfirmed"] == ("mail.confirm",)
    assert table.failures == {"PaymentDeclined": ("payment.charge",)}
    assert table.compensations == {"PaymentRefunded": ("payment.charge",)}
    assert table.cyclic == frozenset()


def test_a_cycle_is_found_through_a_wait() -> None:
    """Steps from which their own trigger can come again, also by way of an event from outside."""
    again = StepDefinition("mail.again", "mail", "Picked", ("OrderPlaced",), (), 30_000, 60_000)
    table = FlowTable(FlowDefinition("order", "order_id", "OrderPlaced", "B", (CHARGE, again), waits=(PICK,)))
    assert table.cyclic == {"payment.charge", "mail.again"}


@pytest.mark.parametrize("backoff", [1.0, 1 + 1e-12, 1.5, 2.0, 100.0, 1e300])
def test_a_wait_is_reckoned_for_any_attempt_and_any_backoff(backoff: float) -> None:
    """`interval_max_ms` bounds every wait, so no power of the backoff need be a number that a machine has."""
    rule = RetryRule(initial_ms=1_000, backoff=backoff, interval_max_ms=60_000, attempts_max=2_000_000)
    assert 1_000 <= rule.delay_ms(2) <= rule.delay_ms(2_000_000) <= 60_000
    span_ms = rule.span_ms(timeout_ms=0)
    assert rule.delay_ms(1) * 1_999_999 <= span_ms <= 60_000 * 1_999_999


@pytest.mark.parametrize("rule", [CHARGE.retry, RetryRule(), RetryRule(initial_ms=0), RetryRule(attempts_max=90)])
def test_the_span_is_the_sum_of_all_attempts_and_waits(rule: RetryRule) -> None:
    """One by one, it is the same."""
    waits = [rule.delay_ms(n) for n in range(1, rule.attempts_max)]
    assert rule.span_ms(7) == 7 * rule.attempts_max + sum(waits)


@pytest.mark.parametrize("duration_ms", ["-1", "1000000000000000"])
def test_a_flow_from_json_holds_durations_that_end(duration_ms: str) -> None:
    """An exported flow may be written by anybody."""
    text = export(FLOW).replace(b'"deadline_ms": 7200000', f'"deadline_ms": {duration_ms}'.encode())
    with pytest.raises(DeclarationError, match=r"\$\.deadline_ms is .*, no duration that ends"):
        load(text)


async def beat(event: Placed, ctx: StepContext) -> None:
    """Report now and then."""


def crunch(event: Placed, ctx: StepContext) -> None:
    """Compute for long."""


def test_heartbeat_and_process_of_a_step_are_exported_and_loaded() -> None:
    """A reader of the JSON sees how an attempt runs; a divided heartbeat is never shorter than work takes."""
    service = Service("video")
    service.step(on=Placed, effect=False, timeout="1h", heartbeat="30s")(beat)
    service.step(on=Placed, effect=False, runs_in="process")(crunch)
    flow = replace(FLOW, steps=tuple(step.definition for step in service.steps.values()))
    loaded = {step.name: step for step in load(export(flow)).steps}
    assert (loaded["video.beat"].heartbeat_ms, loaded["video.beat"].runs_in) == (30_000, "")
    assert (loaded["video.crunch"].heartbeat_ms, loaded["video.crunch"].runs_in) == (0, "process")
    assert loaded["video.beat"].scaled(10).heartbeat_ms == 3_000
    assert loaded["video.beat"].scaled(1_000).heartbeat_ms == 1_000


def test_a_loaded_process_of_another_kind_is_refused() -> None:
    """With the path of the value."""
    text = export(FLOW).replace(b'"runs_in": ""', b'"runs_in": "thread"', 1)
    with pytest.raises(DeclarationError, match=r"Invalid enum value 'thread' - at `\$\.steps\[0\]\.runs_in`"):
        load(text)
