"""Where handlers run: no handler keeps another from running."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import AttemptTimedOut, Job, Withdrawn
from choreo.core.context import StepContext
from choreo.core.definition import RetryRule
from choreo.core.events import Envelope, Record
from choreo.hosts.runners.port import Attempt, Result
from choreo.hosts.runners.runners import ThreadedRunners

CONTEXT = StepContext("order", "o-1", "r", "payment.charge", 1, "k")


class Stand:
    """Runners, and the results they have given."""

    def __init__(self, concurrency: int) -> None:
        self._rung = threading.Event()
        self.runners = ThreadedRunners("test", concurrency, self._rung.set)

    def start(self, *attempts: Attempt) -> None:
        """Have these run."""
        self.runners.start(attempts)

    def results(self, count: int) -> list[Result]:
        """Return the next so many results, in the order they came."""
        found: list[Result] = []
        while len(found) < count:
            self._rung.wait()
            self._rung.clear()
            found += self.runners.results()
        return found


@pytest.fixture
def stand() -> Iterator[Stand]:
    """Runners of two handlers a step at once."""
    stand = Stand(concurrency=2)
    yield stand
    stand.runners.close()


def attempt(handler: Callable[..., Any], given: Any = None, *, step: str = "a.b", timeout_ms: int = 60_000) -> Attempt:
    """Return an attempt at this handler."""
    is_async = asyncio.iscoroutinefunction(handler)
    spec = HandlerSpec(step, handler, is_async, {}, {}, {}, (), timeout_ms, 60_000, RetryRule())
    event = Envelope("id", "Placed", "o-1", "order")
    record = Record("order", 0, 0, 0, event)
    job = Job(spec, record, event, record, "id", "id", spec.deadline_ms)
    job.given = (given,)
    return Attempt(job, CONTEXT)


async def echo(given: Any, ctx: StepContext) -> Any:
    """Return its argument, without waiting."""
    return given


async def echo_later(given: Any, ctx: StepContext) -> Any:
    """Return it after a wait."""
    await asyncio.sleep(0)
    return given


def echo_plainly(given: Any, ctx: StepContext) -> Any:
    """Return it from a thread."""
    return given


def test_each_kind_of_handler_gives_its_result(stand: Stand) -> None:
    """Async at once, async after a wait, plain."""
    stand.start(attempt(echo, 1), attempt(echo_later, 2), attempt(echo_plainly, 3))
    assert sorted(result.value for result in stand.results(3)) == [1, 2, 3]


def test_a_large_batch_of_handlers_that_wait_is_run_within_the_concurrency(stand: Stand) -> None:
    """No more wait at once than allowed, and all have their turn."""
    waiting, most = 0, 0

    async def count(given: Any, ctx: StepContext) -> Any:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting -= 1
        return given

    stand.start(*(attempt(count, n) for n in range(200)))
    assert sorted(result.value for result in stand.results(200)) == list(range(200))
    assert most <= 2


def test_handlers_share_one_loop_and_are_tasks_of_their_own_when_they_wait(stand: Stand) -> None:
    """A client of the user's works for all of them; a timeout of the user's cancels one of them."""
    loops = set()

    async def impatient(given: Any, ctx: StepContext) -> Any:
        loops.add(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return given

    stand.start(attempt(impatient, 1), attempt(impatient, 2), attempt(echo, 3), attempt(echo_later, 4))
    assert sorted(result.value for result in stand.results(4)) == [1, 2, 3, 4]
    assert len(loops) == 1


def test_a_context_variable_stays_in_its_handler(stand: Stand) -> None:
    """One handler's value is not visible to another, also where they share a task."""
    customer: ContextVar[str] = ContextVar("customer", default="nobody")

    async def visit(given: Any, ctx: StepContext) -> Any:
        before = customer.get()
        customer.set(given)
        if given == "waits":
            await asyncio.sleep(0)
        return before, customer.get()

    stand.start(attempt(visit, "first"), attempt(visit, "waits"), attempt(visit, "last"))
    found = {result.value for result in stand.results(3)}
    assert found == {("nobody", "first"), ("nobody", "waits"), ("nobody", "last")}


def test_a_handler_that_waits_too_long_is_cancelled(stand: Stand) -> None:
    """It may clean up; its attempt has timed out."""
    cleaned = threading.Event()

    async def slow(given: Any, ctx: StepContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    stand.start(attempt(slow, timeout_ms=20))
    (result,) = stand.results(1)
    assert isinstance(result.error, AttemptTimedOut)
    assert cleaned.is_set()


def test_a_handler_that_cannot_be_cancelled_is_given_up(stand: Stand) -> None:
    """Its later result is dropped."""
    let_go = threading.Event()

    async def stubborn(given: Any, ctx: StepContext) -> Any:
        while not let_go.is_set():
            with suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
        return "too late"

    stand.start(attempt(stubborn, timeout_ms=20))
    (result,) = stand.results(1)
    assert isinstance(result.error, AttemptTimedOut)
    let_go.set()
    stand.start(attempt(echo, "next"))
    assert [result.value for result in stand.results(1)] == ["next"]


def test_a_handler_that_blocks_the_loop_does_not_stop_the_others(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    """A fresh loop takes over what was queued; the blocked attempt times out, and its late answer is dropped."""
    never, seen = threading.Event(), []

    async def block(given: Any, ctx: StepContext) -> Any:
        seen.append(threading.current_thread().name)
        if given == "blocks":
            never.wait()
        return given

    stand.start(attempt(block, "blocks", step="bad.step", timeout_ms=400), attempt(echo, 1), attempt(echo_later, 2))
    assert sorted(result.value for result in stand.results(2)) == [1, 2]
    assert "step bad.step blocks the loop of all async handlers" in caplog.text
    (late,) = stand.results(1)
    assert isinstance(late.error, AttemptTimedOut)
    never.set()
    stand.start(attempt(block, "again", step="bad.step"), attempt(echo, 3))
    assert {result.value for result in stand.results(2)} == {"again", 3}
    assert seen[1].startswith("choreo-bad.step")


def test_what_waits_on_a_blocked_loop_goes_on_when_the_block_ends(stand: Stand) -> None:
    """The loop is abandoned, not its handlers."""
    gate, waits = threading.Event(), threading.Event()

    async def wait(given: Any, ctx: StepContext) -> Any:
        waits.set()
        try:
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        except TimeoutError:
            return "went on"

    async def block(given: Any, ctx: StepContext) -> Any:
        gate.wait()
        return "unblocked"

    stand.start(attempt(wait, step="good.step"), attempt(block, step="bad.step"))
    waits.wait()
    stand.start(attempt(echo, "fresh"))
    assert stand.results(1)[0].value == "fresh"
    gate.set()
    assert {result.value for result in stand.results(2)} == {"went on", "unblocked"}


def test_threads_that_never_return_are_replaced_within_a_bound(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """As many hang as work; then the step stops, aloud, until one returns. Other steps are not touched."""
    never = threading.Event()

    def hang(given: Any, ctx: StepContext) -> Any:
        never.wait()

    stand.start(*(attempt(hang, step="bad.step", timeout_ms=20) for _ in range(6)))
    assert all(isinstance(result.error, AttemptTimedOut) for result in stand.results(4))
    assert "step bad.step: 4 threads hang in its handler" in caplog.text
    stand.start(attempt(echo_plainly, "other", step="good.step"))
    assert [result.value for result in stand.results(1)] == ["other"]
    never.set()
    assert [result.value for result in stand.results(2)] == [None, None]


def test_an_attempt_called_off_in_time_is_not_made(stand: Stand) -> None:
    """Its handler is not called."""
    called = []

    async def handler(given: Any, ctx: StepContext) -> Any:
        called.append(given)

    def plain(given: Any, ctx: StepContext) -> Any:
        called.append(given)

    off = [attempt(handler), attempt(plain)]
    for one in off:
        one.withdrawn = True
    stand.start(*off)
    assert all(isinstance(result.error, Withdrawn) for result in stand.results(2))
    assert called == []


def test_an_async_handler_of_a_blocking_step_still_has_its_timeout(stand: Stand) -> None:
    """In a thread of its own it has a loop of its own, and is cancelled there."""
    gate = threading.Event()

    async def block(given: Any, ctx: StepContext) -> Any:
        gate.wait()

    stand.start(attempt(block, step="bad.step"))
    stand.start(attempt(echo, step="good.step"))
    stand.results(1)
    gate.set()
    stand.results(1)

    async def slow(given: Any, ctx: StepContext) -> Any:
        await asyncio.Event().wait()

    stand.start(attempt(slow, step="bad.step", timeout_ms=20))
    assert isinstance(stand.results(1)[0].error, AttemptTimedOut)


def test_every_attempt_within_the_concurrency_runs_at_once() -> None:
    """Also one that comes in the moment in which a new thread takes another: a round ends only if all of it runs."""
    before, at_once = sys.getswitchinterval(), 12
    sys.setswitchinterval(1e-6)  # threads change at nearly every instruction
    try:
        for _ in range(60):
            wide = Stand(concurrency=at_once)
            together = threading.Barrier(at_once, timeout=30)

            def meet(given: Any, ctx: StepContext, together: threading.Barrier = together) -> Any:
                together.wait()
                return given

            for number in range(at_once):
                wide.start(attempt(meet, number))
            assert not [result.error for result in wide.results(at_once) if result.error]
            wide.runners.close()
    finally:
        sys.setswitchinterval(before)
