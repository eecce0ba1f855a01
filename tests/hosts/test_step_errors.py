"""The report of an error that a handler raises, also where its class fails when it is inspected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from choreo import Retry, StepContext
from choreo.app.failures import Failure, failure_of
from choreo.core import facts
from tests.hosts.harness import Charged, Placed, payment, plain_payment, running_harness
from tests.hosts.test_step_failures import Flaky, GatewayError


class OddError(Exception):
    """An error that fails when it is looked at."""

    def __str__(self) -> str:
        """Fail."""
        raise RecursionError

    __repr__ = __str__


class HiddenError(Exception):
    """An error that ends the process when anything of it is read, also by `isinstance`."""

    def __getattribute__(self, name: str) -> Any:
        """Fail."""
        raise SystemExit(4)


class WithoutArgsError(Exception):
    """An error that cannot be shown, and interrupts who tries."""

    @property
    def args(self) -> Any:
        """Fail."""
        raise KeyboardInterrupt

    def __bool__(self) -> bool:
        """Fail."""
        raise KeyboardInterrupt

    __str__ = __hash__ = __bool__  # type: ignore[assignment]


ODD: dict[str, Callable[[], BaseException]] = {
    "OddError": OddError,
    "HiddenError": HiddenError,
    "WithoutArgsError": WithoutArgsError,
    "SystemExit": lambda: SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt,
    "RecursionError": RecursionError,
    "MemoryError": lambda: MemoryError("x" * 10_000),
    "ValueError": lambda: ValueError("\udc80 half"),
}
"""Errors by the names of their classes; pytest itself cannot show each of them."""


@pytest.mark.parametrize("made", [payment, plain_payment])
@pytest.mark.parametrize("name", ODD)
async def test_whatever_a_handler_raises_is_one_failure(made: Any, name: str) -> None:
    """The host goes on, and describes the error as well as it can."""

    def charge(event: Placed, ctx: StepContext) -> Any:
        if event.number == 1:
            error = ODD[name]()
            raise error
        return Charged(order_id=event.order_id)

    async def charge_async(event: Placed, ctx: StepContext) -> Any:
        return charge(event, ctx)

    handler = charge if made is plain_payment else charge_async
    async with running_harness(made(handler, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="o-1", number=1))
        await harness.publish(Placed(order_id="o-2"))
        failed = await harness.one(facts.STEP_FAILED)
        assert name in failed.reason
        assert len(failed.reason) <= 500
        assert (await harness.one("Charged")).key == "o-2"


class Hidden:
    """A value that ends the process when it is examined."""

    def __getattribute__(self, name: str) -> Any:
        """Fail."""
        raise SystemExit(4)


@pytest.mark.parametrize("made", [payment, plain_payment])
async def test_whatever_a_handler_returns_is_an_outcome_or_one_failure(made: Any) -> None:
    """The host goes on."""

    def charge(event: Placed, ctx: StepContext) -> Any:
        return Hidden() if event.number == 1 else Charged(order_id=event.order_id)

    async def charge_async(event: Placed, ctx: StepContext) -> Any:
        return charge(event, ctx)

    handler = charge if made is plain_payment else charge_async
    async with running_harness(made(handler, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="o-1", number=1))
        await harness.publish(Placed(order_id="o-2"))
        assert (await harness.one("Charged")).key == "o-2"
        assert (await harness.one(facts.STEP_FAILED)).key == "o-1"


def away() -> None:
    """Fail as a client does whose server is away."""
    raise ConnectionError("redis://user:hunter22@db is away")


async def test_a_failure_says_what_was_raised_from_what_and_where(caplog: pytest.LogCaptureFixture) -> None:
    """Type, message, cause and last frames stand in the fact; the log has the traceback with step, key and attempt."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        try:
            away()
        except ConnectionError as error:
            raise GatewayError("no answer") from error

    async with running_harness(payment(charge, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    failure = msgspec.json.decode(failed.data, type=Failure)
    assert failure.type.endswith("test_step_failures.GatewayError")
    assert failure.message == "no answer"
    assert failure.causes == ["ConnectionError: redis://***@db is away"]
    assert "test_step_errors.py:" in failure.frames[-1]
    assert "in charge: raise GatewayError" in failure.frames[-1]
    assert "step payment.charge, key 'o-1', attempt 1 failed" in caplog.text
    assert "Traceback" in caplog.text
    assert "hunter22" not in caplog.text


async def test_a_failure_may_be_told_without_its_traceback() -> None:
    """Its fact then has the sentence alone."""
    async with running_harness(payment(Flaky(1), retry=Retry(max_attempts=1)), started=False) as harness:
        harness.host(tracebacks=False)
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.data == b""
        assert "GatewayError: no answer" in failed.reason


def test_a_failure_is_at_most_four_kilobytes() -> None:
    """From any depth and with any length; the innermost frames stay."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise GatewayError("ü" * 100_000)

    with pytest.raises(GatewayError) as raised:
        deep(50)
    data = failure_of(raised.value)
    assert len(data) <= 4_096
    assert "raise GatewayError" in msgspec.json.decode(data, type=Failure).frames[-1]


async def test_an_outcome_about_another_key_is_a_failure() -> None:
    """It would stand in this instance and belong to another."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return Charged(order_id="somebody-else")

    async with running_harness(payment(charge)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert "returned Charged about 'somebody-else', and its own key is 'o-1'" in failed.reason


async def test_a_plain_wrapper_around_an_async_handler_is_awaited() -> None:
    """As a decorator with functools.wraps makes one."""
    charge = Flaky(0)

    def timed(event: Placed, ctx: StepContext) -> Any:
        return charge(event, ctx)

    async with running_harness(plain_payment(timed)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        assert (await harness.one("Charged")).key == "o-1"


@pytest.mark.parametrize("retry", [Retry(max_attempts=1), Retry(initial="1h", max_interval="1d", max_attempts=3)])
async def test_a_reason_holds_no_password_however_long_it_is(retry: Retry) -> None:
    """Lists of runs show it, and the log keeps it: the URL that a client shows in its error is cut out."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        raise ConnectionError(f"{'x' * event.number} redis://user:hunter22@db is away")

    async with running_harness(payment(charge, retry=retry)) as harness:
        # The reason is cut inside of the password.
        for number in (0, 430):
            await harness.publish(Placed(order_id=f"o-{number}", number=number))
        type_ = facts.STEP_FAILED if retry.max_attempts == 1 else facts.STEP_ATTEMPT_FAILED
        for failed in await harness.published(type_, 2):
            assert "hunter" not in failed.reason
            assert "ConnectionError" in failed.reason
