"""A project as small as can be, for the tests of the command line: two services, one compensation, one wait."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from choreo import Event, Flow, Part, Service, StepContext


class Line(Part):
    """A value inside an event."""

    sku: str
    quantity: int


class TicketOpened(Event):
    """Somebody asked for something."""

    ticket_id: Annotated[str, Field(min_length=1)]
    priority: int = 1
    lines: Annotated[list[Line], Field(default_factory=list)]


class SeatTaken(Event):
    """A seat is taken."""

    ticket_id: str


class SeatFreed(Event):
    """The seat is free again."""

    ticket_id: str


class TicketClosed(Event):
    """Published from outside."""

    ticket_id: str
    closed_by: str | None = None


class TicketForgotten(Event):
    """Nobody closed it in time."""

    ticket_id: str
    reason: str = ""


class TicketFiled(Event):
    """All is done."""

    ticket_id: str


seats = Service("seats")
archive = Service("archive")


@seats.step(on=TicketOpened, emits=SeatTaken)
async def take(event: TicketOpened, ctx: StepContext) -> SeatTaken:
    """Take a seat."""
    return SeatTaken(ticket_id=event.ticket_id)


@take.compensate(emits=SeatFreed)
async def free(taken: SeatTaken | None, ctx: StepContext) -> SeatFreed | None:
    """Free it."""
    return SeatFreed(ticket_id=taken.ticket_id) if taken else None


@archive.step(on=TicketClosed, emits=TicketFiled, effect=False)
async def file(event: TicketClosed, ctx: StepContext) -> TicketFiled:
    """Put it into the archive."""
    return TicketFiled(ticket_id=event.ticket_id)


desk = Flow(
    "desk", key="ticket_id", starts=TicketOpened, completes=TicketFiled, services=[seats, archive], deadline="30d"
)
desk.attribute("priority", TicketOpened)
desk.attribute("closed_by", TicketClosed, field="closed_by")
desk.wait(on=SeatTaken, until=TicketClosed, timeout="1d", fails=TicketForgotten)
