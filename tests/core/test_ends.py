"""A logged end counts, also where the present declaration would have decided otherwise."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.core.timers import next_due
from choreo.testing import EventLike, Scenario, duplicate, elapsed, event, foreign, given
from tests.core.order import LABEL, ORDER, PICKED, WIDE, but
from tests.core.plain import CHARGE, CONFIRM, PICK, RESERVE, step, undo

PAID: tuple[EventLike, ...] = ("OrderPlaced", "StockReserved", "PaymentCharged")
TALES: dict[str, tuple[EventLike, ...]] = {
    "completed": (*PAID, foreign("Picked"), "OrderConfirmed"),
    "compensated": (*PAID, "choreo.CancelRequested", "PaymentRefunded", "StockReleased"),
    "compensated after a doubt": (
        "OrderPlaced",
        "StockReserved",
        elapsed("1h"),
        "choreo.NothingToCompensate",
        "StockReleased",
    ),
    "terminated": (*PAID, "choreo.FlowTerminated"),
}


def _renamed(definition: FlowDefinition, **names: str) -> FlowDefinition:
    steps = tuple(replace(one, name=names.get(one.name.replace(".", "__"), one.name)) for one in definition.steps)
    return replace(definition, steps=steps)


def _more(definition: FlowDefinition, *steps: object) -> FlowDefinition:
    return replace(definition, steps=(*definition.steps, *steps))


CHANGES = {
    "a step renamed": _renamed(PICKED, payment__charge="payment.charge_card"),
    "every step renamed": _renamed(
        PICKED, stock__reserve="stock.hold", payment__charge="payment.charge_card", mail__confirm="mail.thank"
    ),
    "a step moved to another service": _renamed(PICKED, payment__charge="bank.charge"),
    "a step more on the start": _more(PICKED, step("risk.screen", "OrderPlaced", "OrderScreened", undone="Unscreened")),
    "a step more on the last event": _more(PICKED, step("mail.survey", "OrderConfirmed", "SurveySent")),
    "a step less": but(PICKED, without="payment.charge"),
    "no wait any more": replace(PICKED, waits=()),
    "another wait": replace(PICKED, waits=(PICK, replace(PICK, name="wait.Signed", until="Signed", fails="NotSigned"))),
    "another last event": replace(PICKED, completes="ParcelArrived"),
    "a compensation more": but(PICKED, mail__confirm=replace(PICKED.steps[2], compensation=undo("MailRecalled"))),
    "a compensation less": but(PICKED, payment__charge=replace(CHARGE, compensation=None)),
    "a failure that was a success": but(
        PICKED, stock__reserve=replace(RESERVE, fails=("StockReserved",), emits=("X",))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tale", TALES)
def test_an_ended_run_is_ended_under_every_declaration(tale: str, change: str) -> None:
    """Read again from the log: the same status, and nothing is expected, due or published after the end."""
    story = given(PICKED, *TALES[tale])
    status = story.runs[0].status
    assert status == tale.split(maxsplit=1)[0]
    state, table = KeyState(), FlowTable(CHANGES[change])
    for record in story.log:
        state, published = react(table, state, record)
    (run,) = state.runs
    assert (run.status, run.ended, run.expected, run.waits, run.outbox) == (status, True, [], [], [])
    assert (next_due(state), published) == (0, [])
    assert not [entry for entry in run.ledger if entry.state == "requested"]
    for record in [replace(record, offset=record.offset + len(story.log)) for record in story.log]:
        state, published = react(table, state, record)
        assert (state.runs[0].status, published) == (status, [])


@pytest.mark.parametrize("change", ["a step renamed", "every step renamed"])
@pytest.mark.parametrize("upto", range(1, 6))
def test_a_run_on_its_way_completes_under_the_new_names(upto: int, change: str) -> None:
    """Its progress under the old names makes no difference."""
    log_text: list[EventLike] = [*PAID, foreign("Picked"), "OrderConfirmed"]
    story = given(PICKED, *log_text[:upto])
    story.declared_anew(CHANGES[change]).when(*log_text[upto:]).then(status="completed", expected=[])


@pytest.mark.parametrize("fact", [facts.STEP_FAILED, facts.STEP_SKIPPED])
def test_a_failure_under_the_new_name_turns_the_run(fact: str) -> None:
    """Its step was expected under the old one, and what it has left is in doubt under the new one."""
    story = _deployed_anew(given(ORDER, "OrderPlaced", "StockReserved"))
    story.when(event(fact, step="payment.charge_card", certain=False))
    story.then(status="compensating", ledger={"stock.reserve": "open", "payment.charge_card": "requested in doubt"})


def test_a_put_off_attempt_is_called_for_under_the_new_name() -> None:
    """The old name is no step of any host."""
    story = _deployed_anew(given(ORDER, "OrderPlaced", "StockReserved"))
    story.when(event("choreo.StepAttemptFailed", step="payment.charge_card"), elapsed("1m"))
    story.then(event("choreo.StepRetryDue", step="payment.charge_card"))


def _deployed_anew(story: Scenario) -> Scenario:
    return story.declared_anew(_renamed(ORDER, payment__charge="payment.charge_card"))


def test_an_end_of_a_run_that_still_has_an_attempt_under_way_ends_nothing() -> None:
    """The log has no outcome of it: an effect may stand, so somebody else than a newer declaration is wrong."""
    story = given(WIDE, "OrderPlaced", "StockReserved", event("choreo.StepAttemptFailed", step="labels.print"))
    story.when("PaymentDeclined", "StockReleased")
    story.when(event("choreo.FlowCompensated", id="too early", n=0)).then(status="compensating")


def test_a_late_success_still_opens_a_run_whose_end_was_taken_from_the_log() -> None:
    """An end under another declaration is an end like any other."""
    story = given(PICKED, *PAID, "choreo.CancelRequested", "PaymentRefunded", "StockReleased")
    table, state = FlowTable(but(_more(PICKED, LABEL), mail__confirm=CONFIRM)), KeyState()
    for record in story.log:
        state, _ = react(table, state, record)
    late = replace(story.log[2], offset=len(story.log), event=story.envelope(_printed(story)))
    state, published = react(table, state, late)
    assert [(fact.type, fact.step) for fact in published] == [(facts.COMPENSATION_REQUESTED, "labels.print")]


def _printed(story: Scenario) -> EventLike:
    return event("LabelPrinted", step="labels.print", causation=story.log[1].event.id)


def test_a_completed_run_is_not_terminated_by_what_was_refused() -> None:
    """The log has a termination that came too late: under a declaration that knows less, the end after it counts."""
    story = given(ORDER, *PAID, "OrderConfirmed", read_back=False).when("choreo.FlowTerminated").read_back()
    story.when(duplicate("choreo.FlowTerminated")).then(status="completed")
    state, table = KeyState(), FlowTable(replace(ORDER, completes="ParcelArrived"))
    for record in story.log:
        state, _ = react(table, state, record)
    assert state.runs[0].status == "completed"
