"""The flow as a whole: sources, ways, waits, cycles and the way back, with the sentence its author reads."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.definition import FlowDefinition, WaitDefinition
from tests.core.plain import (
    CHARGE,
    CONFIRM,
    CONFIRM_PICKED,
    HOUR_MS,
    PICK,
    RESERVE,
    STEPS,
    TELL,
    flow,
    published,
    step,
    with_undo,
)

ANSWER = WaitDefinition("wait.Approved", on="OrderPlaced", until="Approved", timeout_ms=HOUR_MS, fails="NoApproval")

ERRORS: dict[str, tuple[FlowDefinition, str]] = {
    "an event nobody emits": (
        flow(RESERVE, replace(CHARGE, on="StockReservd"), CONFIRM),
        (
            "flow order, step payment.charge: waits for StockReservd, which nothing emits. Did you mean StockReserved? "
            "Let a step emit StockReservd, or change on=StockReservd."
        ),
    ),
    "a wait on an event nobody emits": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(replace(PICK, on="Packed"),)),
        (
            "flow order, wait.Picked: waits for Packed, which nothing emits. Did you mean Picked? "
            "Let a step emit Packed, or change on=Packed."
        ),
    ),
    "an end nobody emits": (
        flow(*STEPS, completes="OrderDone"),
        (
            "flow order: completes on OrderDone, which nothing emits. "
            "Let the last step emit OrderDone, or change completes=."
        ),
    ),
    "an end that is a failure": (
        flow(*STEPS, completes="PaymentDeclined"),
        (
            "flow order: completes on PaymentDeclined, which only a failure brings about. "
            "Name the event of the last forward step in completes=."
        ),
    ),
    "an end out of reach": (
        flow(RESERVE, step("mail.a", "B", "OrderConfirmed"), step("mail.b", "OrderConfirmed", "B"), hops_max=9),
        (
            "flow order: completes on OrderConfirmed, which OrderPlaced never leads to. "
            "Let mail.a follow from OrderPlaced."
        ),
    ),
    "a step out of reach": (
        flow(*STEPS, step("mail.a", "B", "A"), step("mail.b", "A", "B"), hops_max=9),
        (
            "flow order, step mail.a: can never be reached: B comes only from mail.b. "
            "Let something that OrderPlaced leads to emit B."
        ),
    ),
    "a wait on a failure": (
        flow(RESERVE, CHARGE, CONFIRM, TELL, fails="OrderCancelled", waits=(replace(PICK, on="PaymentDeclined"),)),
        (
            "flow order, wait.Picked: opens on PaymentDeclined, which is a failure or an undo: compensation closes "
            "every wait. "
            "Open it on an event of the way forward."
        ),
    ),
    "a wait for its own trigger": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(PICK, replace(PICK, on="Picked", fails="Late"))),
        "flow order, wait.Picked: waits for Picked, the event that opens it. Name another event in until=.",
    ),
    "a step on its own event": (
        flow(RESERVE, CHARGE, CONFIRM, step("mail.echo", "PaymentCharged", "PaymentCharged"), hops_max=3),
        "flow order, step mail.echo: PaymentCharged is its own trigger. Emit another event.",
    ),
    "a cycle without a bound": (
        flow(RESERVE, CHARGE, CONFIRM, step("stock.more", "PaymentCharged", "StockReserved", effect=False)),
        (
            "flow order, steps payment.charge, stock.more: they lie on a cycle that has no bound. "
            "Give Flow(max_hops=...) or break the cycle."
        ),
    ),
    "a cycle through a wait": (
        flow(RESERVE, CHARGE, CONFIRM, step("stock.more", "Picked", "StockReserved", effect=False), waits=(PICK,)),
        (
            "flow order, steps payment.charge, stock.more: they lie on a cycle that has no bound. "
            "Give Flow(max_hops=...) or break the cycle."
        ),
    ),
    "a bound below 0": (
        flow(*STEPS, hops_max=-1),
        "flow order: max_hops=-1. Give 0, or the bound of the flow's cycle.",
    ),
    "two answers as two waits": (
        flow(
            step("claim.pay", "Approved", "OrderConfirmed", effect=False),
            step("claim.decline", "Rejected", "OrderConfirmed", effect=False),
            waits=(ANSWER, replace(ANSWER, name="wait.Rejected", until="Rejected", fails="NotRejected")),
        ),
        (
            "flow order, wait.Approved and wait.Rejected: OrderPlaced opens both, and a run in which only one of "
            "Approved and Rejected comes goes on to OrderConfirmed and is then undone when the other times out. "
            "If one of the two comes, declare one wait, until an event with a field that says which; if both do, open "
            "the second wait on what follows Approved."
        ),
    ),
    "two answers that lead to the end through other steps": (
        flow(
            step("claim.pay", "Approved", "Paid", effect=False),
            step("claim.tell", "Paid", "OrderConfirmed", effect=False),
            step("claim.decline", "Rejected", "Declined", effect=False),
            step("claim.say", "Declined", "OrderConfirmed", effect=False),
            waits=(ANSWER, replace(ANSWER, name="wait.Rejected", until="Rejected", fails="NotRejected")),
        ),
        (
            "flow order, wait.Approved and wait.Rejected: OrderPlaced opens both, and a run in which only one of "
            "Approved and Rejected comes goes on to OrderConfirmed and is then undone when the other times out. "
            "If one of the two comes, declare one wait, until an event with a field that says which; if both do, open "
            "the second wait on what follows Approved."
        ),
    ),
    "no way back from a later failure": (
        flow(replace(RESERVE, compensation=None), CHARGE, CONFIRM),
        (
            "flow order, step stock.reserve: has no way back when step payment.charge fails. "
            "Add @reserve.compensate(...), or effect=False if it leaves nothing to undo."
        ),
    ),
    "no way back from a wait": (
        flow(RESERVE, replace(CHARGE, compensation=None), CONFIRM_PICKED, waits=(PICK,)),
        (
            "flow order, step payment.charge: has no way back when wait.Picked fails. "
            "Add @charge.compensate(...), or effect=False if it leaves nothing to undo."
        ),
    ),
    "no way back from a failure on another branch": (
        flow(RESERVE, CHARGE, CONFIRM, step("ledger.book", "StockReserved", "Booked"), completes="OrderConfirmed"),
        (
            "flow order, step ledger.book: has no way back when step payment.charge fails. "
            "Add @book.compensate(...), or effect=False if it leaves nothing to undo."
        ),
    ),
}

WARNINGS: dict[str, tuple[FlowDefinition, str]] = {
    "no way back from an exception": (
        flow(RESERVE, replace(CHARGE, compensation=None), CONFIRM),
        (
            "flow order, step payment.charge: has no way back when step mail.confirm raises or runs out of time, "
            "or the run is cancelled. Add @charge.compensate(...), or effect=False if it leaves nothing to undo."
        ),
    ),
    "a bound without a cycle": (
        flow(*STEPS, hops_max=5),
        "flow order: max_hops=5, but no step lies on a cycle. Leave max_hops out.",
    ),
    "a compensation that cannot take None": (
        flow(RESERVE, with_undo(takes_none=False), CONFIRM),
        (
            "flow order, step payment.charge: its compensation cannot take None, so that a run in which it is in doubt "
            "ends stuck. Hint it as PaymentCharged | None and bar ctx.undoes at the gateway."
        ),
    ),
    "a gateway that cannot bar": (
        flow(RESERVE, with_undo(bars=False), CONFIRM),
        (
            "flow order, step payment.charge: its gateway bars no keys (bars=False), so that a run in which it "
            "is in doubt "
            "ends stuck. Use a gateway that can refuse a key, or be ready to resolve such runs by hand."
        ),
    ),
    "an event nobody reacts to": (
        flow(RESERVE, replace(CHARGE, emits=("PaymentCharged", "PaymentHeld")), CONFIRM),
        (
            "flow order, step payment.charge: emits PaymentHeld, to which no step reacts: a run that ends there never "
            "completes. Declare a step on PaymentHeld, or name it in fails= if it is a failure."
        ),
    ),
    "two waits of which one leads on": (
        flow(
            step("claim.pay", "Approved", "OrderConfirmed", effect=False),
            step("claim.note", "Rejected", "Noted", effect=False),
            waits=(ANSWER, replace(ANSWER, name="wait.Rejected", until="Rejected", fails="NotRejected")),
        ),
        (
            "flow order, wait.Approved and wait.Rejected: OrderPlaced opens both, and a run in which only one of "
            "Approved and Rejected comes is undone when the other times out. "
            "If one of the two comes, declare one wait, until an event with a field that says which; if both do, open "
            "the second wait on what follows Approved."
        ),
    ),
    "a compensation of a reaction": (
        flow(*STEPS, step("mail.tell", "PaymentDeclined", "Told", undone="Untold")),
        (
            "flow order, step mail.tell: reacts to PaymentDeclined, a failure or an undo, so its compensation is never "
            "called. Leave the compensation out."
        ),
    ),
    "an effect that is none": (
        flow(RESERVE, replace(CHARGE, effect=False), CONFIRM),
        "flow order, step payment.charge: has effect=False and a compensation. Leave one of the two out.",
    ),
}

SOUND: dict[str, FlowDefinition] = {
    "a line": flow(*STEPS, deadline_ms=48 * HOUR_MS),
    "a wait and a reaction": flow(RESERVE, CHARGE, CONFIRM_PICKED, TELL, waits=(PICK,), fails="OrderCancelled"),
    "a step beyond the end": flow(*STEPS, step("mail.thank", "OrderConfirmed", effect=False)),
    "a bounded cycle": flow(
        *STEPS,
        step("stock.more", "PaymentCharged", "StockReservedAgain", effect=False),
        replace(CHARGE, name="payment.again", on="StockReservedAgain", emits=("PaymentCharged",), fails=()),
        hops_max=8,
    ),
    "branches": flow(
        RESERVE,
        replace(CHARGE, emits=("PaymentCharged", "PaymentHeld")),
        CONFIRM,
        step("mail.ask", "PaymentHeld", "PaymentReleased", effect=False),
        step("mail.later", "PaymentReleased", "OrderConfirmed"),
    ),
}


@pytest.mark.parametrize("sound", SOUND.values(), ids=list(SOUND))
def test_a_sound_flow_has_no_errors(sound: FlowDefinition) -> None:
    """A flow that is well declared passes."""
    assert published("error", sound) == []


STEPS_LEFT = (RESERVE, CHARGE, replace(CONFIRM, effect=False))

QUIET: dict[str, FlowDefinition] = {
    "a parallel branch that ends by itself": flow(
        *STEPS_LEFT, step("mail.note", "StockReserved", "Noted", effect=False)
    ),
    "a parallel branch of two steps": flow(
        *STEPS_LEFT,
        step("ledger.book", "OrderPlaced", "Booked", effect=False),
        step("ledger.close", "Booked", "BooksClosed", effect=False),
    ),
    "a branch after the end": flow(*STEPS_LEFT, step("mail.thank", "OrderConfirmed", "Thanked", effect=False)),
    "a merge of alternatives": flow(
        RESERVE,
        replace(CHARGE, emits=("PaidByCard", "PaidByInvoice")),
        step("mail.card", "PaidByCard", "Told", effect=False),
        step("mail.invoice", "PaidByInvoice", "Told", effect=False),
        step("mail.confirm", "Told", "OrderConfirmed", effect=False),
    ),
    "a merge of parallel branches": flow(
        step("a.one", "OrderPlaced", "Checked", effect=False),
        step("a.two", "OrderPlaced", "Checked", effect=False),
        step("a.three", "Checked", "OrderConfirmed", effect=False),
    ),
    "one failure of two steps": flow(RESERVE, replace(CHARGE, fails=("StockRejected",)), CONFIRM),
    "waits one after the other": flow(
        step("claim.ask", "Approved", "Asked", effect=False),
        step("claim.pay", "Signed", "OrderConfirmed", effect=False),
        waits=(ANSWER, replace(ANSWER, name="wait.Signed", on="Asked", until="Signed", fails="NotSigned")),
    ),
    "waits on parallel branches that merge": flow(
        step("a.one", "OrderPlaced", "Asked", effect=False),
        step("a.two", "OrderPlaced", "Sent", effect=False),
        step("a.three", "Approved", "Settled", effect=False),
        step("a.four", "Signed", "Settled", effect=False),
        step("a.five", "Settled", "OrderConfirmed", effect=False),
        waits=(
            replace(ANSWER, on="Asked"),
            replace(ANSWER, name="wait.Signed", on="Sent", until="Signed", fails="NotSigned"),
        ),
    ),
}


@pytest.mark.parametrize("quiet", QUIET.values(), ids=list(QUIET))
def test_a_sound_flow_raises_no_false_alarm(quiet: FlowDefinition) -> None:
    """Parallel branches and merges are no mistakes."""
    assert (published("error", quiet), published("warning", quiet)) == ([], [])


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("InvoiceWanted", ""),
        ("OrderDone", ""),
        ("InvoicePaid", ""),
        ("InvoiceSend", "InvoiceSent"),
        ("InvoicSent", "InvoiceSent"),
        ("Invoicesent", "InvoiceSent"),
        ("invoice_sent", "InvoiceSent"),
        ("InvoiceSents", "InvoiceSent"),
    ],
)
def test_only_a_likely_misspelling_is_asked_about(misspelt: str, meant: str) -> None:
    """Names that begin alike are other events: what differs is compared word by word."""
    wrong = flow(
        step("bill.send", "OrderPlaced", "InvoiceSent", effect=False),
        step("bill.close", misspelt, "OrderConfirmed", effect=False),
        step("bill.done", "InvoiceSent", "OrderConfirmed", effect=False),
    )
    (sentence,) = published("error", wrong)
    assert (f"Did you mean {meant}?" in sentence) if meant else ("Did you mean" not in sentence)


def test_a_typing_error_is_one_finding() -> None:
    """Steps beyond a misspelt event are not reported a second time as out of reach."""
    wrong, sentence = ERRORS["an event nobody emits"]
    assert published("error", wrong) == [sentence]
