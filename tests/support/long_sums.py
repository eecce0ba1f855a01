"""A service whose step works in a process of its own: it is imported there by name."""

from __future__ import annotations

import os

from choreo import Retry, Service, StepContext
from tests.hosts.harness import Charged, Declined, Placed

payment = Service("payment")


@payment.step(
    on=Placed, emits=Charged, fails=Declined, runs_in="process", timeout="1m", retry=Retry(initial=0, max_attempts=2)
)
def charge(event: Placed, ctx: StepContext) -> Charged | Declined:
    """Return the number of the process; die or fail where the key says so."""
    if event.order_id == "dies" or (event.order_id == "dies-once" and ctx.attempt == 1):
        os._exit(9)
    if event.order_id == "carries":
        ctx.set_baggage("seen", ctx.baggage["tenant"])
        ctx.set_baggage("worker", str(os.getpid()))
    if event.order_id == "raises":
        message = "not divisible"
        raise ArithmeticError(message)
    return Charged(order_id=event.order_id, number=os.getpid())
