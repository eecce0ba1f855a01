"""An order whose parcels are child flows: one run of `parcel` for each box, joined before the customer hears of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from choreo import ChildResult, Event, Flow, Service, StepContext, all_children
from tests.support.running import importable

FLOWS = ("parcels_project:order", "parcels_project:parcel")


class OrderPlaced(Event):
    """A customer ordered some boxes."""

    order_id: str
    boxes: int
    refused: list[int] = Field(default_factory=list)
    """Boxes that no carrier takes."""


class ParcelRequested(Event):
    """A box is to be sent."""

    parcel_id: str
    refused: bool = False


class ParcelBooked(Event):
    """A carrier takes the box."""

    parcel_id: str


class ParcelRefused(Event):
    """No carrier takes the box."""

    parcel_id: str


class ParcelRecalled(Event):
    """The carrier gave the box back."""

    parcel_id: str


class LabelPrinted(Event):
    """The box has its label."""

    parcel_id: str


class ParcelsShipped(Event):
    """All boxes are on their way."""

    order_id: str
    results: list[ChildResult]
    completed: int
    failed: int


class ParcelsFailed(Event):
    """Too many boxes were refused."""

    order_id: str
    reason: str


class OrderConfirmed(Event):
    """The customer knows."""

    order_id: str


class MailBounced(Event):
    """The customer's mailbox is full."""

    order_id: str


class Parcels:
    """Both flows, and the carrier's book: box → whether it is booked."""

    def __init__(self, **children: Any) -> None:
        self.booked: dict[str, bool] = {}
        self.books = 0
        self.joined: list[ParcelsShipped] = []
        self.gate = threading.Event()
        """Labels are printed while it is set."""
        self.gate.set()
        self.parcel = self._parcel()
        fulfilment, mail = Service("fulfilment"), Service("mail")
        options = {"join": all_children(), **children}

        @fulfilment.children(
            on=OrderPlaced, flow=self.parcel, emits=ParcelsShipped, fails=ParcelsFailed, deadline="2h", **options
        )
        def split(event: OrderPlaced, ctx: StepContext) -> Iterable[ParcelRequested]:
            for box in range(event.boxes):
                yield ParcelRequested(parcel_id=f"{ctx.key}-{box}", refused=box in event.refused)

        @mail.step(on=ParcelsShipped, emits=OrderConfirmed, fails=MailBounced, effect=False)
        async def confirm(event: ParcelsShipped, ctx: StepContext) -> OrderConfirmed | MailBounced:
            self.joined.append(event)
            if ctx.key.startswith("bounced"):
                return MailBounced(order_id=event.order_id)
            return OrderConfirmed(order_id=event.order_id)

        services = [fulfilment, mail]
        self.order = Flow(
            "order", key="order_id", starts=OrderPlaced, completes=OrderConfirmed, services=services, deadline="1d"
        )
        importable("parcels_project", order=self.order, parcel=self.parcel)

    def _parcel(self) -> Flow:
        carrier = Service("carrier")

        @carrier.step(on=ParcelRequested, emits=ParcelBooked, fails=ParcelRefused)
        async def book(event: ParcelRequested, ctx: StepContext) -> ParcelBooked | ParcelRefused:
            if event.refused:
                return ParcelRefused(parcel_id=event.parcel_id)
            self.booked[event.parcel_id] = True
            self.books += 1
            return ParcelBooked(parcel_id=event.parcel_id)

        @book.compensate(emits=ParcelRecalled)
        async def recall(booked: ParcelBooked | None, ctx: StepContext) -> ParcelRecalled:
            self.booked[ctx.key] = False
            return ParcelRecalled(parcel_id=ctx.key)

        @carrier.step(on=ParcelBooked, emits=LabelPrinted, effect=False)
        def label(event: ParcelBooked, ctx: StepContext) -> LabelPrinted:
            self.gate.wait()
            return LabelPrinted(parcel_id=event.parcel_id)

        return Flow(
            "parcel", key="parcel_id", starts=ParcelRequested, completes=LabelPrinted, services=[carrier], deadline="1h"
        )
