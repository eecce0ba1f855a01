"""A flow of which a second version weighs each parcel: what a deployment has, and events of its runs."""

from __future__ import annotations

from pathlib import Path

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.frozen_flows import freeze, read
from choreo.core.events import Envelope
from choreo.wiring import App
from tests.support.patience import PATIENCE_S
from tests.support.running import ended, importable

FLOW = "changing_project:order"


class Placed(Event):
    """An order came in."""

    order_id: str


class Packed(Event):
    """It is packed."""

    order_id: str


class Picked(Event):
    """The carrier has it; comes from outside."""

    order_id: str


class PickMissed(Event):
    """The carrier did not come."""

    order_id: str


class Weighed(Event):
    """The parcel was weighed: new in version 2."""

    order_id: str


class Confirmed(Event):
    """The customer knows."""

    order_id: str


class Unpacked(Event):
    """The goods are back on the shelf."""

    order_id: str


class Project:
    """A deployment of the flow, and the steps that its hosts ran."""

    def __init__(self, version: int, *, with_old: bool = True, number: int = 0) -> None:
        """Declare the first or the second form of the flow, under that number or another."""
        number = number or version
        self.seen: list[str] = []
        store, mail = Service("store"), Service("mail")

        @store.step(on=Placed, emits=Packed)
        async def pack(event: Placed, ctx: StepContext) -> Packed:
            return Packed(order_id=event.order_id)

        @pack.compensate(emits=Unpacked)
        async def unpack(packed: Packed | None, ctx: StepContext) -> Unpacked | None:
            return Unpacked(order_id=ctx.key) if packed else None

        if version == 1 or with_old:

            @mail.step(on=Picked, emits=Confirmed, effect=False, versions="1")
            async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
                self.seen.append(f"{ctx.key} confirm")
                return Confirmed(order_id=event.order_id)

        if version == 2:

            @mail.step(on=Picked, emits=Weighed, effect=False, versions=f"{number}-")
            async def weigh(event: Picked, ctx: StepContext) -> Weighed:
                self.seen.append(f"{ctx.key} weigh")
                return Weighed(order_id=event.order_id)

            @mail.step(on=Weighed, emits=Confirmed, effect=False, versions=f"{number}-")
            async def confirm_weight(event: Weighed, ctx: StepContext) -> Confirmed:
                self.seen.append(f"{ctx.key} confirm_weight")
                return Confirmed(order_id=event.order_id)

        self.order = Flow(
            "order",
            key="order_id",
            starts=Placed,
            completes=Confirmed,
            services=[store, mail],
            deadline="30d",
            version=number,
        )
        self.order.wait(on=Packed, until=Picked, timeout="2d" if version == 1 else "1d", fails=PickMissed)
        importable("changing_project", order=self.order)

    def freeze(self, schemas: Path) -> None:
        """Write the file of this version."""
        freeze(self.order.definition, read(schemas), schemas)


def deploy(order: Flow, schemas: Path) -> None:
    """Let this flow be the project's, and freeze its version."""
    importable("changing_project", order=order)
    freeze(order.definition, read(schemas), schemas)


async def waits_for_its_pick(app: App, key: str) -> None:
    """Start a run and wait until it is packed."""
    receipt = await app.publisher.publish("order", Placed(order_id=key))
    await app.queries.reached(receipt.position, PATIENCE_S)
    async for row in app.queries.follow("order", key):
        if row is not None and row.type == "Packed":
            return


async def picked(app: App, key: str, *, foreign: bool = False) -> str:
    """Publish the pick, through the door or by a program that names no version; return the status at the end."""
    if not foreign:
        receipt = await app.publisher.publish("order", Picked(order_id=key))
        return await ended(app, receipt.position, key, "order")
    data = app.codec.encode(Picked(order_id=key))
    event = Envelope("7", "Picked", key, "order", source="carrier", content_type=app.codec.content_type, data=data)
    (position,) = await app.backend.log.append("order", [event])
    return await ended(app, position, key, "order")
