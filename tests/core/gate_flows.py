"""The flows of the tests of gates: loops, joins, conditions, timers that are moved, reminders."""

from __future__ import annotations

from typing import Any, Literal

from choreo.core.conditions import Compare, Otherwise
from choreo.core.definition import WaitDefinition
from choreo.core.fields import FieldType
from tests.core.order import PICKED
from tests.core.plain import HOUR_MS, flow, step

POLL = flow(
    step("poll.ask", "OrderPlaced", "Asked", effect=False),
    step("poll.count", "Voted", "Counted", effect=False),
    step("poll.again", "Counted", "Asked", effect=False),
    step("poll.close", "Sealed", "OrderConfirmed", effect=False),
    waits=(
        WaitDefinition("wait.Voted", "Asked", "Voted", HOUR_MS, "NoVote"),
        WaitDefinition("wait.Sealed", "Voted", "Sealed", HOUR_MS, "NotSealed"),
    ),
    hops_max=1_000,
)
"""A loop through a wait, and a wait that an event from outside opens."""

TRIP = flow(
    step("flight.book", "OrderPlaced", "FlightBooked", effect=False),
    step("hotel.book", "OrderPlaced", "HotelBooked", effect=False),
    step("mail.send", "FlightBooked", "OrderConfirmed", effect=False, all_of=("FlightBooked", "HotelBooked", "Signed")),
    waits=(WaitDefinition("wait.Signed", "FlightBooked", "Signed", HOUR_MS, "NotSigned"),),
)
"""A join of two branches and an event from outside."""

ROUNDS = flow(
    step("deal.left", "OrderPlaced", "Left", effect=False, any_of=("OrderPlaced", "Dealt")),
    step("deal.right", "OrderPlaced", "Right", effect=False, any_of=("OrderPlaced", "Dealt")),
    step("deal.round", "Left", "Dealt", "OrderConfirmed", effect=False, all_of=("Left", "Right")),
    hops_max=1_000,
)
"""A join on a cycle: it starts once for each pair."""


def _amount(of: str, op: Literal["<", ">="]) -> Compare:
    return Compare("amount", op, 2, FieldType("number", whole=True), of)


_PAIR: Any = {"effect": False, "all_of": ("Left", "Right"), "takes": (("Left",), ("Right",))}
DEALS = flow(
    step("deal.left", "OrderPlaced", "Left", effect=False, any_of=("OrderPlaced", "Dealt")),
    step("deal.right", "OrderPlaced", "Right", effect=False, any_of=("OrderPlaced", "Dealt")),
    step("deal.high", "Left", "Dealt", **_PAIR, when=_amount("Left", ">=") & _amount("Right", ">=")),
    step("deal.low", "Left", "Dealt", **_PAIR, when=_amount("Left", "<") & ~_amount("Right", ">=")),
    step("deal.mixed", "Left", "Dealt", "OrderConfirmed", **_PAIR, when=Otherwise()),
    events={"Left": ("order_id", "amount"), "Right": ("order_id", "amount")},
    hops_max=1_000,
)
"""Joins of the same events on a cycle: for each pair one of three starts, by the amounts in both."""

TRIAL = flow(
    step("trial.begin", "OrderPlaced", "Begun", effect=False),
    step("trial.bill", "Ended", "Billed", effect=False),
    step("trial.extend", "Billed", "Begun", "Extended", effect=False),
    step("trial.renew", "Renewal", "OrderConfirmed", effect=False),
    waits=(
        WaitDefinition("timer.trial", "Begun", "Cancelled", HOUR_MS, "", then="Ended", moved_by="Extended"),
        WaitDefinition("timer.renewal", "Begun", "", 0, "", then="Renewal", at="moment", moved_by="Postponed"),
        WaitDefinition("timer.both", "Postponed", "", HOUR_MS, "", then="Both", moved_by="Begun"),
    ),
    hops_max=1_000,
)
"""Timers that are moved by events of steps and from outside, by a duration and to a moment, on a cycle."""

CLAIM = flow(
    step("claim.file", "OrderPlaced", "Filed", effect=False),
    step("claim.mail", "Reminded", "Mailed", effect=False, any_of=("Reminded", "Escalated")),
    step("claim.pay", "Approved", "OrderConfirmed", effect=False, any_of=("Approved", "BossApproved")),
    step("claim.thank", "Rated", effect=False),
    waits=(
        WaitDefinition(
            "wait.approval",
            "Filed",
            "Approved",
            5 * HOUR_MS,
            "",
            then="Expired",
            remind="Reminded",
            remind_ms=HOUR_MS,
            reminds_max=3,
            escalate="Escalated",
            escalate_ms=HOUR_MS + 60_000,
        ),
        WaitDefinition("wait.boss", "Escalated", "BossApproved", HOUR_MS, "", then="Silent"),
        WaitDefinition("wait.rating", "OrderPlaced", "Rated", 0, "", optional=True),
        WaitDefinition("wait.third", "Expired", "Called", HOUR_MS, "", then="NotCalled"),
    ),
)
"""Reminders, an escalation and a time-out that open the next waits, and an optional wait."""

FLOWS = {"order": PICKED, "poll": POLL, "trip": TRIP, "rounds": ROUNDS, "deals": DEALS, "trial": TRIAL, "claim": CLAIM}
