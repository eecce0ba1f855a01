"""Services, steps and flows declared wrong: the sentence for each mistake, where it is made."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any

import pytest

from choreo import DeclarationError, Event, Retry, Service, StepContext
from tests.core.shop import (
    Charged,
    Confirmed,
    Declined,
    Picked,
    PickTimedOut,
    Placed,
    Refunded,
    charge,
    order,
    refund,
    shop,
)


def no_hint(event: Placed, ctx: StepContext):  # type: ignore[no-untyped-def]  # noqa: ANN201, D103
    return None


def other_return(event: Placed, ctx: StepContext) -> Confirmed | Charged | Declined:  # noqa: D103
    raise AssertionError


def too_little(event: Placed, ctx: StepContext) -> Charged:  # noqa: D103
    raise AssertionError


def other_event(event: Charged, ctx: StepContext) -> Charged | Declined:  # noqa: D103
    raise AssertionError


def other_context(event: Placed, ctx: str) -> Charged | Declined:  # noqa: D103
    raise AssertionError


def one_argument(event: Placed) -> Charged | Declined:  # noqa: D103
    raise AssertionError


def needs_more(event: Placed, ctx: StepContext, *, gateway: str) -> Charged | Declined:  # noqa: D103
    raise AssertionError


def unresolved(event: Placed, ctx: StepContext) -> Missing:  # type: ignore[name-defined]  # noqa: D103, F821
    raise AssertionError


async def yields(event: Placed, ctx: StepContext) -> AsyncIterator[Charged]:  # noqa: D103
    yield Charged(order_id=event.order_id)


def undoes_other(charged: Declined | None, ctx: StepContext) -> Refunded | None:  # noqa: D103
    raise AssertionError


def says_other(charged: Charged | None, ctx: StepContext) -> Confirmed | None:  # noqa: D103
    raise AssertionError


def never_in_doubt(charged: Charged, ctx: StepContext) -> Refunded | None:  # noqa: D103
    raise AssertionError


def returning(hint: Any, emits: Any = Charged, fails: Any = None) -> Callable[[], object]:
    """Return a function that declares a step whose handler is hinted to return this."""

    def handler(event: Placed, ctx: StepContext) -> Any:
        raise AssertionError

    handler.__annotations__["return"] = hint
    return lambda: Service("payment").step(on=Placed, emits=emits, fails=fails, name="charge")(handler)


def step(handler: Any = charge, **changes: Any) -> Callable[[], object]:
    """Return a function that declares a step on Placed with something changed."""
    options: dict[str, Any] = {"on": Placed, "emits": Charged, "fails": Declined, **changes}
    return lambda: Service("payment").step(**options)(handler)


def undo(handler: Any = refund, **changes: Any) -> Callable[[], object]:
    """Return a function that declares a compensation with something changed."""
    options: dict[str, Any] = {"emits": Refunded, **changes}
    return lambda: (
        Service("payment").step(on=Placed, emits=Charged, fails=Declined)(charge).compensate(**options)(handler)
    )


def twice() -> None:
    """Declare two steps of one name."""
    payment, _ = shop()
    payment.step(on=Placed, emits=Charged, fails=Declined)(charge)


def undone_twice() -> None:
    """Declare two compensations of one step."""
    payment, _ = shop()
    payment.steps["charge"].compensate(emits=Refunded)(refund)


def two_classes_of_a_name() -> None:
    """Declare a flow that meets two classes called Cancelled."""
    other = type("Cancelled", (Event,), {"__annotations__": {"order_id": str}, "__module__": "elsewhere"})
    _ = order(shop(), fails=other).definition


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "service name": (
        lambda: Service("pay ment"),
        (
            "service: 'pay ment' is no name: letters, digits, - and _, starting with a letter, at most 100. "
            "Give it another name."
        ),
    ),
    "reserved service name": (
        lambda: Service("tracker"),
        "service: 'tracker' is kept for choreo itself. Give it another name.",
    ),
    "step name": (
        step(lambda *_: None),
        (
            "step of service payment: '<lambda>' is no name: letters, digits, - and _, starting with a letter, "
            "at most 100. Give it another name."
        ),
    ),
    "step twice": (twice, "step payment.charge: declared twice. Give one of the two another name."),
    "no event class": (
        step(emits="Charged"),
        "step payment.charge: emits='Charged' is not an event class. Derive it from choreo.Event.",
    ),
    "Event itself": (
        step(on=Event),
        f"step payment.charge: on={Event!r} is not an event class. Derive it from choreo.Event.",
    ),
    "two triggers": (
        step(on=[Placed, Picked]),
        (
            "step payment.charge: on= takes one event class, got Placed, Picked. "
            "Write on=all_of(A, B) if it needs all of them, on=any_of(A, B) if each starts it."
        ),
    ),
    "event named twice": (
        step(emits=[Charged, Charged]),
        "step payment.charge: event in emits= Charged is named twice. Name each event once.",
    ),
    "success and failure": (
        step(fails=[Declined, Charged]),
        "step payment.charge: Charged is in emits= and in fails=. An event is a success or a failure.",
    ),
    "own trigger": (
        step(emits=Placed),
        "step payment.charge: Placed is its own trigger. Emit another event; a step may not feed itself.",
    ),
    "not callable": (step(5, name="charge"), "step payment.charge: 5 is not callable. Decorate a function."),
    "generator": (
        step(yields),
        "step payment.yields: the handler is a generator. Return the event instead of yielding it.",
    ),
    "one argument": (
        step(one_argument),
        "step payment.one_argument: the handler takes 1 argument. It takes two: the event and ctx: StepContext.",
    ),
    "needs more": (
        step(needs_more),
        (
            "step payment.needs_more: the handler needs gateway=, which choreo does not pass. "
            "Give it a default; a handler is called with the event and the context."
        ),
    ),
    "hint unresolved": (
        step(unresolved),
        "step payment.unresolved: the hint 'Missing' cannot be resolved. Import the class where the module can see it.",
    ),
    "hints unreadable": (
        step(partial(charge), name="charge"),
        "step payment.charge: the handler's hints cannot be read",
    ),
    "other event": (
        step(other_event),
        "step payment.other_event: the handler's event is hinted Charged, the step is on Placed. Hint it as Placed.",
    ),
    "other context": (
        step(other_context),
        "step payment.other_context: the handler's last argument is hinted str. Hint it as StepContext.",
    ),
    "no return hint": (
        step(no_hint),
        "step payment.no_hint: the handler has no return hint. Hint it as -> Charged | Declined.",
    ),
    "returns more": (
        step(other_return),
        (
            "step payment.other_return: the handler is hinted to return Confirmed, which is not declared. "
            "Declare it, or hint -> Charged | Declined."
        ),
    ),
    "returns less": (
        step(too_little),
        (
            "step payment.too_little: Declined is declared, but not among what the handler returns. "
            "Hint it as -> Charged | Declined."
        ),
    ),
    "duration": (
        step(timeout="soon"),
        'step payment.charge: \'soon\' is not a duration. Write it as "30s", "5m", "24h", "2d" or a number of seconds.',
    ),
    "no time": (
        step(timeout=0),
        "step payment.charge: timeout=0 leaves no time. Give a duration above 0.",
    ),
    "deadline below timeout": (
        step(timeout="1m", deadline="30s"),
        (
            "step payment.charge: deadline='30s' is shorter than the timeout of one attempt. "
            "Raise the deadline or lower the timeout."
        ),
    ),
    "no attempts": (
        step(retry=Retry(max_attempts=0)),
        "step payment.charge: Retry(max_attempts=0). Give at least 1: the first attempt; at most 2147483647.",
    ),
    "attempts of a kind": (
        step(retry=Retry(max_attempts=10**400)),
        f"step payment.charge: Retry(max_attempts={10**400!r:.40}). Give at least 1: the first attempt; at most",
    ),
    "endless attempts": (
        step(retry=Retry(max_attempts=2_000_000, initial="52w", max_interval="52w")),
        "step payment.charge: its 2000000 attempts and the waits between them take more than a thousand years. Lower",
    ),
    "attempts that are no number": (
        step(retry=Retry(max_attempts=True)),
        "step payment.charge: Retry(max_attempts=True). Give at least 1: the first attempt; at most 2147483647.",
    ),
    "backoff": (
        step(retry=Retry(backoff=0.5)),
        "step payment.charge: Retry(backoff=0.5). Give 1 (constant waits) or more.",
    ),
    "never": (
        step(retry=Retry(never=("CardRejected",))),  # type: ignore[arg-type]
        "step payment.charge: Retry(never=('CardRejected',)). Give a tuple of exception classes.",
    ),
    "retry interval": (
        step(retry=Retry(initial="2m")),
        (
            "step payment.charge: Retry(initial='2m') is longer than max_interval='1m'. "
            "Raise max_interval or lower initial."
        ),
    ),
    "compensation twice": (
        undone_twice,
        "compensation of step payment.charge: declared twice. Keep one @step.compensate.",
    ),
    "compensation without an event": (
        undo(emits=()),
        "compensation of step payment.charge: emits nothing. Name the event of a finished undo.",
    ),
    "compensation of another outcome": (
        undo(undoes_other),
        (
            "compensation of step payment.charge: the handler's outcome is hinted Declined | None. "
            "Hint it as Charged | None."
        ),
    ),
    "compensation with another answer": (
        undo(says_other),
        (
            "compensation of step payment.charge: the handler is hinted to return Confirmed, which is not declared. "
            "Declare it, or hint -> Refunded."
        ),
    ),
    "compensation that answers a doubt it is never in": (
        undo(never_in_doubt),
        (
            "compensation of step payment.charge: the handler may return None, but is never given None. "
            "Hint what it takes as Charged | None and return None only in doubt, or hint -> Refunded."
        ),
    ),
    "no service": (
        lambda: order([types.ModuleType("payment")]),  # type: ignore[list-item]
        (
            "flow order: services= holds <module 'payment'>, which is not a Service. "
            "Pass the Service itself, not the module it stands in."
        ),
    ),
    "service without steps": (
        lambda: order([Service("idle")]),
        "flow order: service idle has no steps. Declare one with @idle.step.",
    ),
    "services of one name": (
        lambda: order([*shop(), shop()[0]]),
        "flow order: service payment is named twice. Name each service once; its steps in one only().",
    ),
    "two starts": (
        lambda: order(shop(), starts=[Placed, Charged]),
        "flow order: starts= takes one event class, got Placed, Charged. Name one event.",
    ),
    "no end": (
        lambda: order(shop(), completes=None),
        "flow order: completes= takes one event class, got none. Name one event, or several as ",
    ),
    "hops": (
        lambda: order(shop(), max_hops="3"),
        "flow order: max_hops='3'. Give a whole number of at least 0.",
    ),
    "version": (
        lambda: order(shop(), version=0),
        "flow order: version=0. Give a whole number of at least 1.",
    ),
    "wait without time": (
        lambda: order(shop()).wait(on=Charged, until=Picked, timeout=0, fails=PickTimedOut),
        "flow order, wait for Picked: timeout=0 leaves no time. Give a duration above 0.",
    ),
    "two classes of a name": (
        two_classes_of_a_name,
        "flow order: two event classes are called Cancelled: elsewhere and ",
    ),
}


@pytest.mark.parametrize(("declare", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_refused_where_it_is_declared(declare: Callable[[], object], sentence: str) -> None:
    """The error names fault, place and remedy."""
    with pytest.raises(DeclarationError) as raised:
        declare()
    assert raised.value.sentence.startswith(sentence)
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("hint", "emits"),
    [
        (list[Charged], Charged),
        (tuple[Charged, ...], Charged),
        (tuple[Charged, Charged], Charged),
        (Sequence[Charged], Charged),
        (Charged | list[Charged], Charged),
        (list[Charged] | None, None),
        (list[Charged | Declined], Charged),
        (list[list[Charged | Confirmed]], [Charged, Confirmed]),
        (tuple[Charged, Confirmed, Charged], [Charged, Confirmed]),
        (set[Charged | Confirmed], [Charged, Confirmed]),
        (frozenset[Charged], Charged),
        (deque[Charged], Charged),
        (dict[str, Charged], Charged),
        (Mapping[str, Charged], Charged),
        (Iterable[Charged], Charged),
        (Iterator[Charged | Confirmed], [Charged, Confirmed]),
        (Generator[Charged, None, None], Charged),
        (AsyncIterator[Charged], Charged),
        (Collection[Charged | Confirmed], [Charged, Confirmed]),
    ],
    ids=str,
)
def test_a_hint_of_several_events_of_one_type_is_refused(hint: Any, emits: Any) -> None:
    """One of them would be handled and the others lost: also nested, in a union, and in what is no list at all."""
    with pytest.raises(DeclarationError, match="of several events of one type only one is handled") as raised:
        returning(hint, emits, Declined if "Declined" in str(hint) else None)()
    assert raised.value.remedy.startswith("Return one event that holds them all")


@pytest.mark.parametrize(
    "hint",
    [
        list[Charged | Confirmed],
        tuple[Charged, Confirmed],
        Sequence[Charged | Confirmed],
        tuple[Charged | Confirmed, ...],
        Charged | Confirmed | list[Charged | Confirmed],
        Charged | tuple[Confirmed],
    ],
    ids=str,
)
def test_a_hint_of_several_events_of_different_types_is_taken(hint: Any) -> None:
    """Each of them is handled: parallel branches."""
    returning(hint, [Charged, Confirmed])()
