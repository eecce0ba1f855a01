"""FlowTest: real handlers and real hosts in virtual time; the recipes of a flow's failures."""

import asyncio

import pytest

from choreo import Event, Flow, Retry, Service, StepContext
from choreo.core.errors import ConflictError, NotFoundError
from choreo.testing import FlowTest, SimulationError
from tests.support.seats import Asked, Freed, Held, Paid, Printed, Unpaid


class SoldOut(Event):
    """There is no seat."""

    order_id: str


hall = Service("hall")
desk = Service("desk")
free = {"seats": 0}


@hall.step(on=Asked, emits=Held, fails=SoldOut, timeout="5s", retry=Retry(initial="1s", max_attempts=3))
async def hold(event: Asked, ctx: StepContext) -> Held | SoldOut:
    """Hold the seats, unless there are too many."""
    if event.seats > 4:
        return SoldOut(order_id=event.order_id)
    return Held(order_id=event.order_id)


@hold.compensate(emits=Freed, timeout="5s", retry=Retry(initial="1s", max_attempts=2))
async def release(held: Held | None, ctx: StepContext) -> Freed | None:
    """Free them."""
    return Freed(order_id=ctx.key)


@desk.step(on=Paid, emits=Printed, effect=False, timeout="5s", retry=Retry(initial="1s", max_attempts=2))
def print_ticket(event: Paid, ctx: StepContext) -> Printed:
    """Print it, by a plain function."""
    return Printed(order_id=event.order_id)


ticket = Flow("ticket", key="order_id", starts=Asked, completes=Printed, deadline="40d", services=[hall, desk])
ticket.wait(on=Held, until=Paid, timeout="30d", fails=Unpaid)


def test_a_flow_completes() -> None:
    """Run the real handlers; `assert_events` compares the domain's events."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1"))
        env.assert_events("t-1", Asked, Held)
        env.skip("29d")
        env.publish(Paid(order_id="t-1"))
        env.assert_events("t-1", Asked(order_id="t-1"), "Held", Paid, Printed)
        env.assert_status("t-1", "completed")


async def test_it_runs_on_any_event_loop() -> None:
    """Await the same methods in a coroutine; the time of that loop stands still."""
    loop = asyncio.get_running_loop()
    async with FlowTest(ticket) as env:
        receipt = await env.publish(Asked(order_id="t-1"))
        assert receipt.key == "t-1"
        await env.skip("31d")
        env.assert_events("t-1", Asked, Held, Unpaid, Freed)
    assert asyncio.get_running_loop() is loop
    await asyncio.sleep(0)


def test_a_declined_step_compensates() -> None:
    """Undo nothing where the only step was declined."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1", seats=5))
        env.assert_events("t-1", Asked, SoldOut)
        env.assert_status("t-1", "compensated", cause="SoldOut")


def test_an_error_then_a_success() -> None:
    """Try again after a delay."""
    with FlowTest(ticket) as env:
        env.fail("hall.hold", times=2)
        env.publish(Asked(order_id="t-1"))
        env.assert_events("t-1", Asked)
        env.skip("4s")
        env.assert_events("t-1", Asked, Held)
        assert [call.attempt for call in env.calls] == [1, 2, 3]


def test_a_step_that_never_answers_times_out() -> None:
    """Fail after all attempts, in doubt: the compensation runs."""
    with FlowTest(ticket) as env:
        env.hang("hall.hold", times=None)
        env.publish(Asked(order_id="t-1"))
        env.skip("1m")
        env.assert_events("t-1", Asked, Freed)
        env.assert_status("t-1", "compensated")


def test_a_process_that_dies_in_the_middle_of_a_step_runs_it_again() -> None:
    """Start again under the same idempotency key."""
    with FlowTest(ticket) as env:
        env.kill("hall.hold", after=True)
        env.publish(Asked(order_id="t-1"))
        env.assert_events("t-1", Asked)
        env.skip("30s")
        env.assert_events("t-1", Asked, Held)
        assert [(call.step, call.attempt) for call in env.calls] == [("hall.hold", 1), ("hall.hold", 2)]


def test_a_late_event_from_outside_is_refused() -> None:
    """Refuse it at the door once its wait has timed out."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1"))
        env.skip("31d")
        with pytest.raises(ConflictError):
            env.publish(Paid(order_id="t-1"))


def test_a_cancelled_run_undoes_its_effects() -> None:
    """Cancel as an operator does."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1"))
        env.cancel("t-1", reason="the customer called")
        env.assert_events("t-1", Asked, Held, Freed)
        env.assert_status("t-1", "compensated", cause="the customer called")


def test_a_compensation_that_fails_is_stuck_until_an_operator_retries_it() -> None:
    """End stuck, and go on by hand."""
    with FlowTest(ticket) as env:
        env.fail("hall.hold", "the hall is closed", times=2, compensation=True)
        env.publish(Asked(order_id="t-1"))
        env.cancel("t-1")
        env.skip("1m")
        env.assert_status("t-1", "stuck")
        env.retry_compensation("t-1", "hall.hold")
        env.assert_status("t-1", "compensated")


def test_a_paused_run_waits() -> None:
    """Start no step of a paused run; its deadlines stand still."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1"))
        env.pause("t-1")
        env.skip("60d")
        env.assert_status("t-1", "paused")
        env.resume("t-1")
        env.publish(Paid(order_id="t-1"))
        env.skip("1s")
        env.assert_status("t-1", "completed")


def test_a_wrong_expectation_shows_the_timeline() -> None:
    """Show both lists, and every call with its time."""
    with FlowTest(ticket) as env:
        env.fail("hall.hold", "no answer from the hall")
        env.publish(Asked(order_id="t-1"))
        with pytest.raises(AssertionError, match=r"(?s)Asked.*not.*Held.*attempt 1 failed.*no answer from the hall"):
            env.assert_events("t-1", Asked, Held)


def test_a_misspelt_name_is_refused() -> None:
    """Name the near one."""
    with FlowTest(ticket) as env:
        env.publish(Asked(order_id="t-1"))
        with pytest.raises(NotFoundError, match="Did you mean Held"):
            env.assert_events("t-1", Asked, "Hold")
        with pytest.raises(NotFoundError, match=r"Did you mean hall\.hold"):
            env.fail("hall.hodl")


def test_a_thread_in_a_handler_is_refused_by_name() -> None:
    """Name the function that would run in a thread, also where the handler has hidden the error."""
    other = Service("other")

    def compute() -> int:
        return 1

    @other.step(on=Asked, emits=Held, effect=False)
    async def use_a_thread(event: Asked, ctx: StepContext) -> Held:
        await asyncio.to_thread(compute)
        return Held(order_id=event.order_id)

    flow = Flow("threaded", key="order_id", starts=Asked, completes=Held, deadline="1d", services=[other])
    with pytest.raises(SimulationError, match="compute"), FlowTest(flow) as env:
        env.publish(Asked(order_id="t-1"))
