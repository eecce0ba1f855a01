"""Names, fields and roles: each part of a flow by itself, with the sentence its author reads."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.definition import FlowDefinition
from tests.core.plain import (
    CHARGE,
    CONFIRM,
    CONFIRM_PICKED,
    PICK,
    RESERVE,
    STEPS,
    TELL,
    flow,
    step,
    undo,
)

ERRORS: dict[str, tuple[FlowDefinition, str]] = {
    "no steps": (
        flow(),
        "flow order: it has no steps. Pass services=[...] with a step on OrderPlaced.",
    ),
    "a flow's name": (
        flow(*STEPS, name="my order"),
        (
            "flow my order: the flow's name 'my order' is no name: letters, digits, - and _, starting with a letter, "
            "at most 100. Give it another name."
        ),
    ),
    "a step's name": (
        flow(*STEPS, step("mail.", "PaymentCharged", effect=False)),
        (
            "flow order, step mail.: the name '' is no name: letters, digits, - and _, starting with a letter, "
            "at most 100."
            " Give it another name."
        ),
    ),
    "a service called as the tracker": (
        flow(*STEPS, step("tracker.count", "PaymentCharged", effect=False)),
        "flow order, step tracker.count: the name 'tracker' is kept for choreo itself. Give it another name.",
    ),
    "a step of another service": (
        flow(RESERVE, CHARGE, replace(CONFIRM, service="post")),
        "flow order, step mail.confirm: its service is given as post. Name a step service.step.",
    ),
    "two steps of one name": (
        flow(*STEPS, step("mail.confirm", "StockReserved", effect=False)),
        "flow order, step mail.confirm: 2 steps have this name. Give each a name of its own.",
    ),
    "two waits for one event": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(PICK, replace(PICK, on="StockReserved", fails="Late"))),
        "flow order, wait.Picked: 2 waits have this name. Declare one wait for each event from outside.",
    ),
    "an event of choreo's own": (
        flow(*STEPS, step("mail.done", "choreo.FlowCompleted", effect=False)),
        (
            "flow order, event choreo.FlowCompleted: names that start with 'choreo.' are choreo's own facts. "
            "Give it another name."
        ),
    ),
    "an event type that fits no header": (
        flow(RESERVE, CHARGE, CONFIRM, replace(TELL, on="Order Cancelled"), fails="Order Cancelled"),
        "flow order, event Order Cancelled: this is no event type. Use letters, digits, underscores and dots.",
    ),
    "an event without its fields": (
        replace(flow(*STEPS), events={**flow(*STEPS).events, "StockReserved": ("sku",)}),
        "flow order, event StockReserved: it has no field order_id, the flow's key. Add order_id to StockReserved.",
    ),
    "an event that is not listed": (
        replace(flow(RESERVE, CHARGE, CONFIRM), events={}),
        (
            "flow order, event OrderConfirmed: its fields are not listed in events. "
            "Export the flow again from its declaration."
        ),
    ),
    "a start that a step emits": (
        flow(RESERVE, CHARGE, replace(CONFIRM, emits=("OrderConfirmed", "OrderPlaced"))),
        (
            "flow order, event OrderPlaced: it is a success of step mail.confirm and the start event. "
            "Emit another event: OrderPlaced would start another run."
        ),
    ),
    "a success that is a failure": (
        flow(RESERVE, replace(CHARGE, fails=("OrderConfirmed",)), CONFIRM),
        (
            "flow order, event OrderConfirmed: it is a failure of step payment.charge and a success of step "
            "mail.confirm. "
            "Give the failure an event of its own; where the flow is to go on from it, name it in emits=."
        ),
    ),
    "an undo that is a success": (
        flow(RESERVE, replace(CHARGE, compensation=undo("StockReserved")), CONFIRM),
        (
            "flow order, event StockReserved: it is a success of step stock.reserve and an undo of step "
            "payment.charge. "
            "Give each its own event class."
        ),
    ),
    "a timeout that is a step's failure": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(replace(PICK, fails="PaymentDeclined"),)),
        (
            "flow order, event PaymentDeclined: it is a failure of step payment.charge and a timeout of wait.Picked. "
            "Give each its own event class."
        ),
    ),
    "one timeout for two waits": (
        flow(
            RESERVE,
            CHARGE,
            CONFIRM_PICKED,
            step("mail.packed", "Packed", effect=False),
            waits=(PICK, replace(PICK, name="wait.Packed", until="Packed")),
        ),
        (
            "flow order, event PickTimedOut: it is a timeout of wait.Packed and a timeout of wait.Picked. "
            "Give each wait a fails= or then= event of its own."
        ),
    ),
    "a wait for an event from inside": (
        flow(RESERVE, CHARGE, CONFIRM, waits=(replace(PICK, until="OrderConfirmed"),)),
        (
            "flow order, event OrderConfirmed: it is a success of step mail.confirm and the outside event of "
            "wait.Picked. "
            "A wait is for an event from outside; to go on from a step's event declare a step on it."
        ),
    ),
    "a way forward from a failure": (
        flow(RESERVE, CHARGE, CONFIRM, step("stock.again", "PaymentDeclined", "StockReserved")),
        (
            "flow order, event StockReserved: it is a success of a reaction of step stock.again and "
            "a success of step stock.reserve. Give each its own event class."
        ),
    ),
    "the flow's own failure with fields": (
        flow(*STEPS, TELL, fails="OrderCancelled", events={"OrderCancelled": ("order_id", "reason", "card")}),
        (
            "flow order, event OrderCancelled: the tracker publishes it when a run is undone and cannot fill in card. "
            "Keep only order_id and, if wanted, reason."
        ),
    ),
    "a timeout with fields": (
        flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(PICK,), events={"PickTimedOut": ("order_id", "shelf")}),
        (
            "flow order, event PickTimedOut: the tracker publishes it when wait.Picked times out and cannot fill in "
            "shelf. Keep only order_id and, if wanted, reason."
        ),
    ),
}

WARNINGS: dict[str, tuple[FlowDefinition, str]] = {
    "an undo of two steps": (
        flow(replace(RESERVE, compensation=undo("Undone")), replace(CHARGE, compensation=undo("Undone")), CONFIRM),
        (
            "flow order, event Undone: it is an undo of step payment.charge and an undo of step stock.reserve, "
            "so that one without choreo's headers cannot be attributed. "
            "Give each step an event of its own, or let every producer of it set ce_choreostep."
        ),
    ),
}
