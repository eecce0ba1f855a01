"""Two flows that share a service: their key fields differ, and each has only some of the service's steps."""

from __future__ import annotations

from choreo import Event, Flow, Service, StepContext
from choreo.core.events import Envelope
from choreo.settings import Settings
from choreo.wiring import App
from tests.support.running import ended, importable, running

FLOWS = ("two_flows_project:orders", "two_flows_project:plans")


class Due(Event):
    """Money is due, for an order or for a plan."""

    order_id: str = ""
    plan_id: str = ""


class Charged(Event):
    """The money was taken."""

    order_id: str = ""
    plan_id: str = ""


class Extended(Event):
    """The plan goes on for a month."""

    plan_id: str


class Refunded(Event):
    """The money was given back."""

    order_id: str = ""
    plan_id: str = ""


class TwoFlows:
    """The flows, and the calls of the shared service's handlers."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        payment = Service("payment")

        @payment.step(on=Due, emits=Charged)
        async def charge(event: Due, ctx: StepContext) -> Charged:
            self.seen.append(f"{ctx.flow} charges {ctx.key}")
            return Charged(order_id=event.order_id, plan_id=event.plan_id)

        @charge.compensate(emits=Refunded)
        async def refund(charged: Charged | None, ctx: StepContext) -> Refunded:
            return Refunded(order_id=ctx.key, plan_id=ctx.key)

        @payment.step(on=Charged, emits=Extended, effect=False)
        def extend(event: Charged, ctx: StepContext) -> Extended:
            self.seen.append(f"{ctx.flow} extends {ctx.key}")
            return Extended(plan_id=event.plan_id)

        self.payment = payment
        self.orders = Flow(
            "orders", key="order_id", starts=Due, completes=Charged, services=[payment.only(charge)], deadline="1h"
        )
        self.plans = Flow(
            "plans", key="plan_id", starts=Due, completes=Extended, services=[payment], deadline="1h", linger="1d"
        )
        importable("two_flows_project", orders=self.orders, plans=self.plans)

    async def play(self, settings: Settings, *, memory: bool = False) -> list[str]:
        """Run one order, one plan, and a foreign event in the logs of both; return the handlers' inputs."""
        async with running(settings, memory=memory) as app:
            assert list(app.services) == ["payment"]
            order = await app.publisher.publish("orders", Due(order_id="o-1"))
            plan = await app.publisher.publish("plans", Due(plan_id="p-1"))
            assert await ended(app, order.position, "o-1", "orders") == "completed"
            assert await ended(app, plan.position, "p-1", "plans") == "completed"
            for flow in ("orders", "plans"):
                await self._from_outside(app, flow)
        return sorted(self.seen)

    async def _from_outside(self, app: App, flow: str) -> None:
        """Append one event as a program beside choreo does, with the same id in each log."""
        due = Due(order_id="7", plan_id="7")
        data = app.codec.encode(due)
        event = Envelope(
            id="1", type="Due", key="7", flow=flow, source="erp", content_type=app.codec.content_type, data=data
        )
        (position,) = await app.backend.log.append(flow, [event])
        assert await ended(app, position, "7", flow) == "completed"


SEEN = ["orders charges 7", "orders charges o-1", "plans charges 7", "plans charges p-1", "plans extends 7"]
SEEN = sorted([*SEEN, "plans extends p-1"])
"""Every step of each flow, once for each of its runs."""
