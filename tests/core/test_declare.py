"""Declaring services, steps and flows well: what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from choreo import DeclarationError, Event, Flow, NonRetryableError, Retry, Service, StepContext
from choreo.core.definition import CompensationDefinition, RetryRule, StepDefinition, WaitDefinition
from tests.core.shop import (
    Charged,
    Confirmed,
    Declined,
    Placed,
    Refunded,
    charge,
    context,
    order,
    refund,
    shop,
)


def bare(charged: Charged, ctx: StepContext) -> Refunded:
    """Refund: a compensation that cannot answer a doubt."""
    return Refunded(order_id=charged.order_id)


def test_a_flow_is_derived_from_what_its_steps_declare() -> None:
    """The definition holds every part as plain data, with the defaults filled in."""
    definition = order(shop(), deadline="2d").definition
    rule = RetryRule(attempts_max=2)
    assert definition.steps[0] == StepDefinition(
        name="payment.charge",
        service="payment",
        on="Placed",
        emits=("Charged",),
        fails=("Declined",),
        timeout_ms=10_000,
        deadline_ms=2 * 10_000 + 1_000 + 600_000,  # both attempts, the wait between them, ten minutes of lag
        retry=rule,
        compensation=CompensationDefinition(
            emits=("Refunded",), takes_none=True, bars=True, timeout_ms=30_000, deadline_ms=300_000
        ),
    )
    assert [step.name for step in definition.steps] == ["payment.charge", "mail.confirm", "mail.tell"]
    assert definition.waits == (WaitDefinition("wait.Picked", "Charged", "Picked", 86_400_000, "PickTimedOut"),)
    assert (definition.starts, definition.completes, definition.fails) == ("Placed", "Confirmed", "Cancelled")
    assert (definition.deadline_ms, definition.linger_ms, definition.hops_max) == (172_800_000, 604_800_000, 0)
    assert definition.events["Cancelled"] == ("order_id", "reason")
    assert order(shop()).findings() == []


def test_a_step_is_called_like_the_function_it_was() -> None:
    """A unit test of a handler needs no framework."""
    payment, _ = shop()
    step = payment.steps["charge"]
    assert step(Placed(order_id="o-1"), context()) == Charged(order_id="o-1")
    assert step.compensation is not None
    assert step.compensation(None, context(undoes="k")) is None


def test_a_step_keeps_the_errors_that_are_not_retried() -> None:
    """`never` stands beside the definition: exception classes are code, not data."""
    payment = Service("payment")
    step = payment.step(on=Placed, emits=Charged, fails=Declined, retry=Retry(never=(NonRetryableError,)))(charge)
    step.compensate(emits=Refunded, retry=Retry(never=(ValueError,)))(refund)
    assert (step.never, step.never_undo) == ((NonRetryableError,), (ValueError,))


def test_several_events_may_be_returned_as_a_list() -> None:
    """A hint of list[A | B] declares the same outcomes as A | B."""
    payment = Service("payment")

    @payment.step(on=Placed, emits=[Charged, Confirmed])
    def split(event: Placed, ctx: StepContext) -> list[Charged | Confirmed]:
        return [Charged(order_id=event.order_id)]

    assert split.definition.emits == ("Charged", "Confirmed")


def test_a_wrong_flow_is_refused_with_all_its_mistakes() -> None:
    """`definition` is checked; `draft` and `findings` let a tool look at a wrong one."""
    flow = order(shop()[:1])
    assert "Confirmed, which nothing emits" in flow.findings()[0].sentence
    assert flow.draft().completes == "Confirmed"
    with pytest.raises(DeclarationError, match="Let the last step emit Confirmed"):
        _ = flow.definition


def test_a_compensation_that_cannot_take_none_is_declared_as_such() -> None:
    """It is a warning of the flow, not a mistake of the step."""
    payment = Service("payment")
    payment.step(on=Placed, emits=Charged, fails=Declined)(charge).compensate(emits=Refunded)(bare)
    undone = payment.steps["charge"].definition.compensation
    assert undone is not None
    assert not undone.takes_none


def test_importing_choreo_imports_nothing_else() -> None:
    """A public name costs its import when it is first used, and a missing name is an error."""
    code = (
        "import sys, choreo\n"
        "assert not {name for name in sys.modules if name.startswith('choreo.')}\n"
        "assert 'pydantic' not in sys.modules and 'msgspec' not in sys.modules\n"
        "assert choreo.Retry is choreo.Retry and 'pydantic' not in sys.modules\n"
        "assert set(choreo.__all__) == set(dir(choreo))\n"
        "assert all(hasattr(choreo, name) for name in choreo.__all__) and not hasattr(choreo, 'Nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def made(name: str, **fields: Any) -> Any:
    """Return an event class of these fields besides its key."""
    return type(name, (Event,), {"__annotations__": {"order_id": str, **fields}, "__module__": __name__})


def waiting(reason: Any) -> Flow:
    """Return a flow with a wait whose failure has a `reason` of this type."""
    filed, sent, picked = made("Filed"), made("Sent"), made("Picked")
    desk = Service("desk")

    def send(event: Any, ctx: StepContext) -> Any:
        return sent(order_id=event.order_id)

    send.__annotations__.update({"event": filed, "return": sent})
    desk.step(on=filed, emits=sent, effect=False)(send)
    flow = Flow("order", key="order_id", starts=filed, completes=picked, services=[desk])
    flow.wait(on=sent, until=picked, timeout="1h", fails=made("Late", reason=reason))
    return flow


@pytest.mark.parametrize("reason", [int, list[str], datetime, bool, Decimal | None], ids=str)
def test_a_reason_that_can_hold_no_sentence_is_refused(reason: Any) -> None:
    """The tracker makes the event, and could not fill it in."""
    with pytest.raises(DeclarationError, match=r"Late\.reason: the tracker fills it in with a sentence"):
        _ = waiting(reason).definition


@pytest.mark.parametrize("reason", [Literal["late"], Annotated[str, Field(max_length=20)]], ids=str)
def test_a_reason_that_holds_few_sentences_is_a_warning(reason: Any) -> None:
    """The event is made all the same: its handler gets a text that it did not expect."""
    (finding,) = waiting(reason).findings()
    assert (finding.level, finding.where) == ("warning", "flow order, event Late")


@pytest.mark.parametrize("reason", [str, str | None], ids=str)
def test_a_reason_of_any_text_is_right(reason: Any) -> None:
    """As the documents have it."""
    assert not waiting(reason).findings()


@pytest.mark.parametrize(("returns", "found"), [("tuple[A, B]", 0), ("tuple[A, B] | Bad", 0), ("list[A | B]", 1)])
def test_events_that_always_come_together_end_together(returns: str, found: int) -> None:
    """Of a tuple both come, so that nobody need react to the one beside the end."""
    classes = {name: made(name) for name in ("Filed", "A", "B", "Bad")}
    desk = Service("desk")

    def work(event: Any, ctx: StepContext) -> Any:
        return event

    work.__annotations__.update({"event": classes["Filed"], "return": eval(returns, {}, classes)})  # noqa: S307 - a hint
    fails = classes["Bad"] if "Bad" in returns else None
    desk.step(on=classes["Filed"], emits=(classes["A"], classes["B"]), fails=fails, effect=False)(work)
    flow = Flow("order", key="order_id", starts=classes["Filed"], completes=classes["B"], services=[desk])
    assert len(flow.findings()) == found
