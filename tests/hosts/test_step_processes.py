"""A step with `runs_in="process"` works in a process of its own; one that dies is one failed attempt."""

from __future__ import annotations

import os
from typing import Any

import pytest

from choreo import DeclarationError, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.core import facts
from tests.hosts.harness import Charged, Placed, running_harness
from tests.support.long_sums import charge, payment


def at_the_top(event: Placed, ctx: StepContext) -> Charged:
    """Never called here."""
    raise AssertionError


async def waits(event: Placed, ctx: StepContext) -> Charged:
    """Never called either."""
    raise AssertionError


async def test_the_handler_runs_in_another_process() -> None:
    """Its event and its outcome travel; in a unit test the step is called here."""
    async with running_harness(payment) as harness:
        await harness.publish(Placed(order_id="o-1"))
        outcome = await harness.one("Charged")
    number = AvroCodec().decode(Charged, outcome.content_type, outcome.data).number
    assert number not in (0, os.getpid())
    assert charge(Placed(order_id="o-1"), StepContext("order", "o-1", "r", "s", 1, "k")).number == os.getpid()


async def test_a_process_that_dies_is_one_failed_attempt() -> None:
    """The next attempt gets another process."""
    async with running_harness(payment) as harness:
        await harness.publish(Placed(order_id="dies-once"))
        outcome = await harness.one("Charged")
    assert outcome.attempt == 2


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("dies", "WorkerDiedError: the process of the handler died before it returned"),
        ("raises", "ArithmeticError: not divisible"),
    ],
)
async def test_a_failure_in_the_process_is_told_as_any_other(key: str, reason: str) -> None:
    """After the last attempt the step has failed."""
    async with running_harness(payment) as harness:
        await harness.publish(Placed(order_id=key))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.reason == f"2 attempts failed, the last one: attempt 2 failed with {reason}"


@pytest.mark.parametrize(
    ("handler", "options", "sentence"),
    [
        (waits, {"runs_in": "process"}, "the handler is async. Write a plain def"),
        (at_the_top, {"runs_in": "thread"}, "runs_in='thread'. Write runs_in=\"process\""),
        (at_the_top, {"runs_in": "process", "heartbeat": "10s"}, "the step has heartbeat=. Leave one"),
    ],
)
def test_a_handler_that_cannot_run_there_is_refused(handler: Any, options: dict[str, Any], sentence: str) -> None:
    """Where it is declared, with the remedy."""
    with pytest.raises(DeclarationError) as raised:
        Service("payment").step(on=Placed, emits=Charged, **options)(handler)
    assert sentence in str(raised.value)


def test_a_handler_inside_of_a_function_is_refused() -> None:
    """Another process could not find it."""

    def inner(event: Placed, ctx: StepContext) -> Charged:
        raise AssertionError

    with pytest.raises(DeclarationError, match=r"another process cannot find the handler\. Declare a plain def at the"):
        Service("payment").step(on=Placed, emits=Charged, runs_in="process")(inner)
