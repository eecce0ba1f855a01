"""The forward path: expected steps, waits, branches, cycles, and when a run completes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import facts
from choreo.testing import duplicate, elapsed, event, foreign, given, undo
from tests.core.order import DAY_MS, ORDER, PICKED, SCREENED, WIDE, but
from tests.core.plain import CHARGE, CONFIRM, RESERVE, flow, step

PAID = ("OrderPlaced", "StockReserved", "PaymentCharged")


def test_a_step_is_expected_from_its_trigger_to_its_outcome() -> None:
    """Each event makes the steps on it expected and settles the step that made it."""
    story = given(ORDER, "OrderPlaced").then(expected=["stock.reserve"])
    story.when("StockReserved").then(expected=["payment.charge"])
    story.when("PaymentCharged").then(expected=["mail.confirm"])


def test_several_steps_on_one_event_are_all_expected() -> None:
    """A fan-out inside a flow needs no word of its own."""
    given(WIDE, "OrderPlaced", "StockReserved").then(expected=["payment.charge", "labels.print"])


def test_a_success_opens_an_entry_only_where_there_is_something_to_undo() -> None:
    """A step without a compensation, or with effect=False, leaves nothing in the ledger."""
    harmless = but(ORDER, payment__charge=replace(CHARGE, effect=False))
    given(harmless, *PAID).then(ledger={"stock.reserve": "open"})
    given(ORDER, *PAID).then(ledger={"stock.reserve": "open", "payment.charge": "open"})


def test_a_run_completes_when_its_event_is_seen_and_ends_when_the_fact_is_read() -> None:
    """The domain event alone ends nothing: only FlowCompleted is the truth."""
    story = given(ORDER, *PAID, read_back=False).when("OrderConfirmed").then("choreo.FlowCompleted", status="running")
    story.read_back().then_nothing().then(status="completed")


def test_a_run_does_not_complete_while_a_step_is_expected() -> None:
    """The confirmation is there, the screening is not: the run goes on."""
    story = given(SCREENED, *PAID, "OrderConfirmed").then(status="running", expected=["risk.screen"])
    story.when("OrderScreened").then("choreo.FlowCompleted", status="completed")


def test_until_it_completes_any_failure_turns_a_run() -> None:
    """A confirmation may stand in the log of a run that is then compensated."""
    story = given(SCREENED, *PAID, "OrderConfirmed").when("OrderSuspicious")
    story.then("choreo.CompensationStarted", undo("payment.charge"), status="compensating")


def test_a_run_does_not_complete_while_a_wait_is_open() -> None:
    """A wait for an event from outside keeps the run open; its timeout is a failure."""
    early = replace(PICKED, completes="PaymentCharged")
    given(early, *PAID).then(status="running", waits=["Picked"]).when("Picked", "OrderConfirmed").then(
        status="completed"
    )


@pytest.mark.parametrize(
    "late", [event("choreo.CancelRequested"), event("PaymentDeclined", step="payment.charge"), "choreo.FlowTerminated"]
)
def test_from_the_decision_to_complete_on_nothing_turns_a_run(late: object) -> None:
    """Neither a cancel nor a failure nor a termination comes between the decision and its fact."""
    story = given(ORDER, *PAID, "OrderConfirmed", read_back=False).when(late).then(status="running")
    story.read_back().then(status="completed")


@pytest.mark.parametrize("wish", ["choreo.CancelRequested", "choreo.FlowTerminated"])
def test_a_wish_that_comes_while_completing_is_refused_aloud(wish: str) -> None:
    """An operator is answered, not ignored."""
    story = given(ORDER, *PAID, "OrderConfirmed", read_back=False).when(wish)
    story.then(event("choreo.CancelRefused", reason="the run has decided to complete"))


def test_no_deadline_passes_while_completing() -> None:
    """The flow's deadline is over: the run has decided, and its clock stands."""
    given(ORDER, *PAID, "OrderConfirmed", read_back=False).when(elapsed("3d")).then_nothing()


def test_a_step_without_an_outcome_event_is_completed_by_a_fact() -> None:
    """`emits=None` is recorded as StepCompleted: it settles the step and opens its entry."""
    archive = step("archive.store", "PaymentCharged", undone="ArchiveCleared")
    story = given(flow(RESERVE, CHARGE, CONFIRM, archive), *PAID).then(expected=["mail.confirm", "archive.store"])
    story.when(event("choreo.StepCompleted", step="archive.store")).then(expected=["mail.confirm"])
    story.then(ledger={"stock.reserve": "open", "payment.charge": "open", "archive.store": "open"})


def test_a_step_with_several_outcomes_goes_the_way_of_the_one_it_chose() -> None:
    """Branching: the other branch is never expected."""
    choose = step("risk.choose", "OrderPlaced", "Cheap", "Dear")
    both = flow(choose, step("fast.track", "Cheap", "OrderConfirmed"), step("by.hand", "Dear", "OrderConfirmed"))
    given(both, "OrderPlaced", "Dear").then(expected=["by.hand"]).when(event("OrderConfirmed", step="by.hand")).then(
        status="completed"
    )


def test_a_handler_that_returns_two_events_goes_both_ways() -> None:
    """The first settles the step, each triggers what is on it, and there is one effect to undo."""
    split = step("stock.split", "OrderPlaced", "Here", "There", undone="Merged")
    both = flow(split, step("here.pack", "Here", "OrderConfirmed"), step("there.pack", "There", "Packed"))
    story = given(both, "OrderPlaced", "Here", event("There", id="place-1"))
    story.then(expected=["here.pack", "there.pack"], ledger={"stock.split": "open"})


def test_a_cycle_ends_at_its_hops() -> None:
    """An event that has come round too often triggers nothing and starts compensation."""
    again = step("quality.check", "Made", "Rejected", fails="Scrapped")
    make = step("factory.make", "OrderPlaced", "Made")
    remake = step("factory.remake", "Rejected", "Made")
    done = step("factory.ship", "Made", "OrderConfirmed")
    cycle = flow(make, again, remake, done, hops_max=5)
    story = given(cycle, "OrderPlaced", event("Made", step="factory.make"))
    for hops in (2, 4):
        story.when("Rejected").then(status="running")
        story.when(event("Made", step="factory.remake", hops=hops + 1)).then(
            status="running" if hops < 4 else "compensating"
        )
    story.then(cause="more than 5 hops: Made came round too often")


def test_a_step_on_a_cycle_has_an_entry_for_each_trigger() -> None:
    """An entry is (run, step, trigger): what was done twice is undone twice, newest first."""
    tick = step("meter.count", "Asked", "Counted", undone="Uncounted")
    cycle = flow(step("a.b", "OrderPlaced", "Asked"), tick, step("c.d", "Counted", "Asked"), hops_max=9)
    story = given(cycle, "OrderPlaced", event("Asked", step="a.b"), "Counted", event("Asked", step="c.d", id="second"))
    story.when("Counted").then(ledger=[("meter.count", "open"), ("meter.count", "open")])
    story.when("choreo.CancelRequested").then(ledger=[("meter.count", "open"), ("meter.count", "requested")])


# Waits for events from outside.


def test_a_wait_opens_with_its_event_and_is_satisfied_from_outside() -> None:
    """The event that satisfies it triggers what is on it."""
    story = given(PICKED, *PAID).then(waits=["Picked"], expected=[])
    story.when("Picked").then(waits=[], expected=["mail.confirm"])


def test_a_wait_that_is_not_satisfied_fails_with_its_own_event() -> None:
    """The tracker publishes the event after the timeout; once read from the log, it starts compensation."""
    story = given(PICKED, *PAID).when(elapsed("59m")).then_nothing().when(elapsed("2m"))
    story.then(
        event("PickTimedOut", due_ms=story.log[2].stamp_ms + 3_600_000),
        "choreo.CompensationStarted",
        undo("payment.charge"),
    )
    story.then(waits=[], cause="Picked did not come within 1h: PickTimedOut")


def test_a_divided_duration_is_shown_as_such() -> None:
    """A day's wait that took a minute is no mistake of the clock."""
    story = given(PICKED.scaled(60), *PAID).when(elapsed("1m"))
    story.then("PickTimedOut", "choreo.CompensationStarted", undo("payment.charge"))
    story.then(cause="Picked did not come within 1m (time scale 60): PickTimedOut")


def test_the_event_of_a_timeout_carries_the_key_and_a_reason() -> None:
    """A domain event of the tracker has the class's fields: the key, and a reason where there is one."""
    log_text = replace(PICKED, events={**PICKED.events, "PickTimedOut": ("order_id", "reason")})
    assert given(log_text, *PAID).when(elapsed("1h")).published[0].data == (
        b'{"order_id":"order-1","reason":"Picked did not come in time"}'
    )
    assert given(PICKED, *PAID).when(elapsed("1h")).published[0].data == b'{"order_id":"order-1"}'


def test_an_event_from_outside_that_comes_before_its_wait_satisfies_it_when_it_opens() -> None:
    """The warehouse was faster than the payment: nothing waits for what is already there."""
    story = given(PICKED, "OrderPlaced", "Picked", "StockReserved", "PaymentCharged")
    story.then(waits=[]).when("OrderConfirmed").then("choreo.FlowCompleted")


def test_events_from_outside_that_come_early_do_not_pile_up() -> None:
    """At most 16 of a type are kept for the openings to come; one more is an orphan. An event twice is one event."""
    story = given(PICKED, "OrderPlaced", *[event("Picked", id="same") for _ in range(3)])
    assert [kept.id for kept in story.runs[0].gates.kept] == ["same"]
    story = given(PICKED, "OrderPlaced", *[foreign("Picked") for _ in range(20)])
    assert len(story.runs[0].gates.kept) == 16
    assert story.state.orphans == [17, 18, 19, 20]


def test_an_early_event_triggers_its_steps_when_the_wait_opens() -> None:
    """Nothing is expected of it before; its trigger is the event from outside, with the hops of the opener and one."""
    story = given(PICKED, "OrderPlaced", "Picked").then(expected=["stock.reserve"])
    story.when("StockReserved").when(event("PaymentCharged", hops=2)).then(expected=["mail.confirm"], waits=[])
    (expected,) = story.runs[0].expected
    assert (expected.trigger, expected.offset, expected.hops) == (story.log[1].event.id, 1, 3)


def test_a_wait_on_no_cycle_takes_one_event() -> None:
    """Others that came before or come after trigger nothing."""
    story = given(PICKED, "OrderPlaced", foreign("Picked"), foreign("Picked"), "StockReserved", "PaymentCharged")
    story.when(foreign("Picked")).then(expected=["mail.confirm"], waits=[])
    assert story.runs[0].gates.kept == ()


def test_a_timeout_against_its_event_is_settled_by_the_order_of_the_log() -> None:
    """Both stand in the log: the first one counts."""
    story = given(PICKED, *PAID, read_back=False).when(elapsed("1h"))
    timeout = story.unread.pop()
    story.when("Picked", timeout).then(status="running", waits=[], expected=["mail.confirm"])
    story = given(PICKED, *PAID, elapsed("1h"), "Picked").then(status="compensating")


def test_a_wait_on_no_cycle_opens_once() -> None:
    """A foreign program that repeats its event under another id starts no second timer."""
    story = given(PICKED, *PAID).when(elapsed("30m"), foreign("PaymentCharged")).then(waits=["Picked"])
    story.when(elapsed("31m")).when(elapsed("31m"))
    assert [record.event.type for record in story.log].count("PickTimedOut") == 1
    given(PICKED, *PAID, "Picked", foreign("PaymentCharged")).then(waits=[])


def test_the_turn_closes_the_waits() -> None:
    """Nothing waits for the warehouse once the order goes back; the event may still come, and means nothing."""
    story = given(PICKED, *PAID, "choreo.CancelRequested").then(waits=[])
    story.when("Picked").then_nothing().then(expected=[])


def test_a_wait_declared_no_longer_ends_by_its_deadline() -> None:
    """A definition that changed under an open wait leaves no timer that is due for ever."""
    story = given(PICKED, *PAID)
    story.table = type(story.table)(replace(PICKED, waits=()))
    story.when(elapsed("1h")).then("choreo.StepDeadlinePassed", "choreo.CompensationStarted", undo("payment.charge"))
    story.then(waits=[], cause="Picked did not come in time")


# Deadlines.


def test_past_its_deadline_a_step_has_failed_in_doubt() -> None:
    """The deadline counts from the trigger's stamp; the step may have left its effect."""
    story = given(ORDER, "OrderPlaced", "StockReserved").when(elapsed("59m")).then_nothing().when(elapsed("1m"))
    story.then("choreo.StepDeadlinePassed", "choreo.CompensationStarted", undo("payment.charge", outcome=-1))
    story.then(cause="payment.charge gave no outcome within 1h", expected=[])
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})


def test_a_deadline_against_an_outcome_is_settled_by_the_order_of_the_log() -> None:
    """The outcome stands first: the deadline that was published meanwhile means nothing."""
    story = given(ORDER, "OrderPlaced", "StockReserved", read_back=False).when(elapsed("1h"))
    passed = story.unread.pop()
    story.when("PaymentCharged", passed).then(status="running", expected=["mail.confirm"])


def test_the_flows_deadline_turns_it() -> None:
    """The kind of its open wait makes no difference."""
    slow = but(PICKED, mail__confirm=replace(CONFIRM, on="Picked", deadline_ms=9 * DAY_MS))
    story = given(slow, *PAID, "Picked").when(elapsed("2d"))
    story.then("choreo.FlowDeadlinePassed", "choreo.CompensationStarted", undo("payment.charge"))
    story.then(cause="the flow's deadline of 2d has passed")


def test_a_turned_run_has_no_flow_deadline() -> None:
    """It is bounded by its undo deadlines."""
    story = given(ORDER, *PAID, "choreo.CancelRequested", elapsed("3d"))
    assert not [record for record in story.log if record.event.type == facts.FLOW_DEADLINE_PASSED]


@pytest.mark.parametrize("type_", sorted(facts.TIMERS))
def test_a_timer_fact_from_before_a_pause_means_nothing(type_: str) -> None:
    """Its deadline was moved by the pause, which its tracker had not read."""
    story = given(ORDER, "OrderPlaced", "StockReserved", facts.FLOW_PAUSED, facts.FLOW_RESUMED)
    story.when(event(type_, step="payment.charge", trigger=story.log[1].event.id, due_ms=1)).then(status="running")


@pytest.mark.parametrize("type_", sorted(facts.TIMERS))
def test_a_timer_fact_about_no_open_subject_means_nothing(type_: str) -> None:
    """The start triggered no charge, nothing is undone, and a fact without a moment is none."""
    story = given(ORDER, "OrderPlaced", "StockReserved")
    due_ms = 0 if type_ == facts.FLOW_DEADLINE_PASSED else 1
    story.when(event(type_, step="payment.charge", trigger=story.log[0].event.id, due_ms=due_ms))
    story.then(status="running", expected=["payment.charge"])


def test_a_step_declared_no_longer_is_in_doubt_at_its_deadline() -> None:
    """Its effect is unknown and cannot be undone: the run ends stuck, not silently compensated."""
    story = given(ORDER, "OrderPlaced", "StockReserved")
    story.table = type(story.table)(but(ORDER, without="payment.charge"))
    story.when(elapsed("1h")).then(
        status="stuck", ledger={"stock.reserve": "requested", "payment.charge": "failed in doubt"}
    )
    story.when("StockReleased").then(status="stuck")


# Failures.


def test_a_declared_failure_of_the_only_attempt_has_left_nothing() -> None:
    """Certain: no entry, and compensation starts at once."""
    story = given(ORDER, "OrderPlaced", "StockReserved").when("PaymentDeclined")
    story.then("choreo.CompensationStarted", undo("stock.reserve"), ledger={"stock.reserve": "requested"})
    story.then(cause="payment.charge failed: PaymentDeclined")


@pytest.mark.parametrize(
    "failure",
    [
        event("PaymentDeclined", certain=False),
        event("choreo.StepFailed", step="payment.charge", reason="5 attempts used up"),
        event("choreo.StepSkipped", step="payment.charge", reason="its deadline has passed", certain=False),
    ],
    ids=lambda log_text: log_text.type,
)
def test_every_other_failure_leaves_its_entry_in_doubt(failure: object) -> None:
    """A second attempt, an exception, a skip after an attempt: the effect may be there."""
    story = given(ORDER, "OrderPlaced", "StockReserved").when(failure)
    story.then("choreo.CompensationStarted", undo("payment.charge", outcome=-1))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})


@pytest.mark.parametrize("type_", ["choreo.StepSkipped", "choreo.StepFailed"])
def test_a_skip_or_dead_letter_before_any_attempt_is_certain(type_: str) -> None:
    """Read in a running run, it is a failure and starts compensation; it has left no effect."""
    story = given(ORDER, "OrderPlaced", "StockReserved")
    story.when(event(type_, step="payment.charge", certain=True)).then(
        "choreo.CompensationStarted", undo("stock.reserve")
    )
    story.then(ledger={"stock.reserve": "requested"})


def test_a_failure_of_a_step_without_a_way_back_leaves_no_doubt() -> None:
    """There is nothing that could be asked."""
    story = given(ORDER, *PAID).when(event("choreo.StepFailed", step="mail.confirm", reason="x"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested"})


def test_a_failure_after_the_success_changes_nothing() -> None:
    """A zombie's StepFailed does not take the effect away."""
    story = given(ORDER, *PAID).when(event("choreo.StepFailed", step="payment.charge", reason="zombie"))
    story.then_nothing().then(status="running", ledger={"stock.reserve": "open", "payment.charge": "open"})


# Reactions to failures.


def test_a_reaction_to_a_failure_is_never_expected_and_does_not_hold_the_end() -> None:
    """Telling the customer runs in any status and opens no entry."""
    warn = step("mail.warn", "PaymentDeclined", "CustomerWarned", undone="WarningRecalled")
    story = given(flow(RESERVE, CHARGE, CONFIRM, warn), "OrderPlaced", "StockReserved", "PaymentDeclined")
    story.then(expected=[]).when("StockReleased").then(status="compensated")
    story.when("CustomerWarned").then_nothing().then(status="compensated", ledger={"stock.reserve": "undone"})


def test_what_a_reaction_says_of_itself_changes_nothing() -> None:
    """Its failure starts no compensation and leaves no doubt."""
    warn = step("mail.warn", "PaymentDeclined", "CustomerWarned", fails="NotWarned", undone="WarningRecalled")
    story = given(flow(RESERVE, CHARGE, CONFIRM, warn), "OrderPlaced", "StockReserved", "PaymentDeclined")
    story.when(
        "NotWarned", event("choreo.StepFailed", step="mail.warn"), event("choreo.StepAttemptFailed", step="mail.warn")
    )
    story.then_nothing().then(ledger={"stock.reserve": "requested"})


# CompensationStarted, read by every consumer.


def test_a_trigger_before_the_announcement_makes_its_step_expected() -> None:
    """Its host may not have read CompensationStarted yet; it answers, at least with a skip."""
    story = given(WIDE, "OrderPlaced", "StockReserved", read_back=False).when("LabelJammed", "PaymentCharged")
    story.then(expected=["mail.confirm"])


def test_a_trigger_after_the_announcement_makes_nothing_expected() -> None:
    """Every host reads CompensationStarted first and skips without a fact."""
    story = given(WIDE, "OrderPlaced", "StockReserved", "LabelJammed", "PaymentCharged").then(expected=[])
    story.then(ledger={"stock.reserve": "requested", "payment.charge": "open"})


def test_the_turn_is_announced_once() -> None:
    """A second failure finds the run compensating."""
    story = given(WIDE, "OrderPlaced", "StockReserved", "LabelJammed").when("PaymentDeclined").then_nothing()
    story.then(cause="labels.print failed: LabelJammed")
    story.when(duplicate("LabelJammed"), "choreo.CancelRequested").then_nothing()
