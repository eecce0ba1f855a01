"""What is told of an error that a handler raises, whatever its class does when it is looked at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from choreo import Retry, StepContext
from choreo.app.failures import Failure, failure_of
from choreo.core import facts
from tests.hosts.stage import Charged, Placed, payment, plain_payment, staged
from tests.hosts.test_step_failures import Flaky, GatewayError


class OddError(Exception):
    """An error that fails when it is looked at."""

    def __str__(self) -> str:
        """Fail."""
        raise RecursionError

    __repr__ = __str__


ODD: list[BaseException] = [OddError(), SystemExit(1), KeyboardInterrupt(), RecursionError(), MemoryError("x" * 10_000)]


@pytest.mark.parametrize("made", [payment, plain_payment])
@pytest.mark.parametrize("error", [*ODD, ValueError("\udc80 half")], ids=lambda error: type(error).__name__)
async def test_whatever_a_handler_raises_is_one_failure(made: Any, error: BaseException) -> None:
    """The host goes on, and says what it was as well as that can be said."""

    def charge(event: Placed, ctx: StepContext) -> Any:
        if event.number == 1:
            raise error
        return Charged(order_id=event.order_id)

    async def charge_async(event: Placed, ctx: StepContext) -> Any:
        return charge(event, ctx)

    handler = charge if made is plain_payment else charge_async
    async with staged(made(handler, retry=Retry(max_attempts=1))) as stage:
        await stage.publish(Placed(order_id="o-1", number=1))
        await stage.publish(Placed(order_id="o-2"))
        failed = await stage.one(facts.STEP_FAILED)
        assert type(error).__name__ in failed.reason
        assert len(failed.reason) <= 500
        assert (await stage.one("Charged")).key == "o-2"


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

    async with staged(payment(charge, retry=Retry(max_attempts=1))) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
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
    async with staged(payment(Flaky(1), retry=Retry(max_attempts=1)), started=False) as stage:
        stage.host(tracebacks=False)
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.data == b""
        assert "GatewayError: no answer" in failed.reason


def test_a_failure_is_at_most_four_kilobytes() -> None:
    """However deep it was raised, and however much it says; the innermost frames stay."""

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
    """It would stand in this instance and speak of another."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return Charged(order_id="somebody-else")

    async with staged(payment(charge)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert "returned Charged about 'somebody-else', and its own key is 'o-1'" in failed.reason


async def test_a_plain_wrapper_around_an_async_handler_is_awaited() -> None:
    """As a decorator with functools.wraps makes one."""
    charge = Flaky(0)

    def timed(event: Placed, ctx: StepContext) -> Any:
        return charge(event, ctx)

    async with staged(plain_payment(timed)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        assert (await stage.one("Charged")).key == "o-1"


@pytest.mark.parametrize("retry", [Retry(max_attempts=1), Retry(initial="1h", max_interval="1d", max_attempts=3)])
async def test_a_reason_holds_no_password_however_long_it_is(retry: Retry) -> None:
    """Whoever lists runs reads it, and the log keeps it: the URL that a client shows in its error is cut out."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        raise ConnectionError(f"{'x' * event.number} redis://user:hunter22@db is away")

    async with staged(payment(charge, retry=retry)) as stage:
        # The reason is cut inside of the password.
        for number in (0, 430):
            await stage.publish(Placed(order_id=f"o-{number}", number=number))
        type_ = facts.STEP_FAILED if retry.max_attempts == 1 else facts.STEP_ATTEMPT_FAILED
        for failed in await stage.said(type_, 2):
            assert "hunter" not in failed.reason
            assert "ConnectionError" in failed.reason
