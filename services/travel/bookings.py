"""Flights, hotels and cars: three services that book side by side, each in the outside system's own books."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.travel import (
    CarBooked,
    CarFreed,
    CarRejected,
    RoomsBooked,
    RoomsFreed,
    RoomsRejected,
    SeatsBooked,
    SeatsFreed,
    SeatsRejected,
    TripRequested,
)
from services.gateways.errors import USELESS_TO_RETRY, OutOfStockError
from services.gateways.warehouse import Warehouse

flights, hotels, cars = Service("flights"), Service("hotels"), Service("cars")
seats, rooms, garage = Warehouse("flights"), Warehouse("hotels"), Warehouse("cars")
_RETRY = Retry(never=USELESS_TO_RETRY)


@flights.step(name="book", on=TripRequested, emits=SeatsBooked, fails=SeatsRejected, timeout="10s", retry=_RETRY)
def book_seats(event: TripRequested, ctx: StepContext) -> SeatsBooked | SeatsRejected:
    """Book a seat for each traveller, or none."""
    wanted = [(event.flight, len(event.travellers))]
    try:
        number = seats.reserve(key=ctx.idempotency_key, order_id=event.trip_id, items=wanted)
    except OutOfStockError as lacking:
        return SeatsRejected(trip_id=event.trip_id, reason=str(lacking))
    return SeatsBooked(trip_id=event.trip_id, booking_id=number)


@book_seats.compensate(emits=SeatsFreed, timeout="10s")
def free_seats(booked: SeatsBooked | None, ctx: StepContext) -> SeatsFreed | None:  # noqa: ARG001 - the books say it
    """Free the seats. In doubt, the airline knows whether there are any, and bars the key if not."""
    number = seats.release(reserve_key=ctx.undoes, key=ctx.idempotency_key)
    return SeatsFreed(trip_id=ctx.key, booking_id=number) if number else None


@hotels.step(name="book", on=TripRequested, emits=RoomsBooked, fails=RoomsRejected, timeout="10s", retry=_RETRY)
def book_rooms(event: TripRequested, ctx: StepContext) -> RoomsBooked | RoomsRejected:
    """Book a room for each traveller, or none."""
    wanted = [(event.hotel, len(event.travellers))]
    try:
        number = rooms.reserve(key=ctx.idempotency_key, order_id=event.trip_id, items=wanted)
    except OutOfStockError as lacking:
        return RoomsRejected(trip_id=event.trip_id, reason=str(lacking))
    return RoomsBooked(trip_id=event.trip_id, booking_id=number)


@book_rooms.compensate(emits=RoomsFreed, timeout="10s")
def free_rooms(booked: RoomsBooked | None, ctx: StepContext) -> RoomsFreed | None:  # noqa: ARG001 - the books say it
    """Free the rooms."""
    number = rooms.release(reserve_key=ctx.undoes, key=ctx.idempotency_key)
    return RoomsFreed(trip_id=ctx.key, booking_id=number) if number else None


@cars.step(name="book", on=TripRequested, emits=CarBooked, fails=CarRejected, timeout="10s", retry=_RETRY)
def book_car(event: TripRequested, ctx: StepContext) -> CarBooked | CarRejected:
    """Book one car for all travellers."""
    try:
        number = garage.reserve(key=ctx.idempotency_key, order_id=event.trip_id, items=[(event.car, 1)])
    except OutOfStockError as lacking:
        return CarRejected(trip_id=event.trip_id, reason=str(lacking))
    return CarBooked(trip_id=event.trip_id, booking_id=number)


@book_car.compensate(emits=CarFreed, timeout="10s")
def free_car(booked: CarBooked | None, ctx: StepContext) -> CarFreed | None:  # noqa: ARG001 - the books say it
    """Free the car."""
    number = garage.release(reserve_key=ctx.undoes, key=ctx.idempotency_key)
    return CarFreed(trip_id=ctx.key, booking_id=number) if number else None
