"""Facts that cross from one flow's log into another's: from a parent to its children, and the ends of children back.

Pure: the bridge reads a fact, asks here, and publishes the answers in the logs that they name in `flow`. Every id is
derived, so that a crossing that is repeated makes duplicates only.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.baggage import carried_of, fields_of
from choreo.core.bridge import SOURCE
from choreo.core.events import Envelope

JSON = "application/json"

_DOWN = {
    facts.CHILDREN_COMPENSATION_REQUESTED: facts.PARENT_COMPENSATION_REQUESTED,
    facts.CHILDREN_PAUSED: facts.PARENT_PAUSED,
    facts.CHILDREN_RESUMED: facts.PARENT_RESUMED,
    facts.CHILDREN_TERMINATED: facts.PARENT_TERMINATED,
}

ORDERS = frozenset({facts.CHILDREN_DUE, *_DOWN})
"""Facts about a batch of children; `outcome` is the offset of its ChildrenPlanned in the same partition."""

CROSSING = ORDERS | {facts.CHILD_ENDED}
"""Types of the facts that cross."""


class Place(NamedTuple):
    """The place of a child in its parent: header `ce_choreoparent`."""

    flow: str
    key: str
    run: str
    step: str
    trigger: str
    place: int


class Start(msgspec.Struct, frozen=True, array_like=True):
    """The start event of a child, not started yet."""

    key: str
    data: bytes


class Plan(msgspec.Struct, frozen=True):
    """The content of `choreo.ChildrenPlanned`: a batch of starts of one flow."""

    flow: str
    type: str
    version: int
    total: int
    """Number of children of all batches."""
    size: int
    """Children of a batch."""
    content_type: str
    starts: list[Start]


class Ended(msgspec.Struct, frozen=True):
    """The content of `choreo.ChildEnded`."""

    key: str
    outcome: str


_plan = msgspec.json.Decoder(Plan)
_place = msgspec.json.Decoder(Place)
_ended = msgspec.json.Decoder(Ended)
_places = msgspec.json.Decoder(frozenset[int])
encode = msgspec.json.encode


def plan_of(event: Envelope) -> Plan | None:
    """Return the batch in a ChildrenPlanned; None if it cannot be read."""
    try:
        plan = _plan.decode(event.data)
    except msgspec.DecodeError:
        return None
    return plan if plan.size > 0 and plan.total >= 0 else None


def is_plan(event: Envelope) -> bool:
    """Return whether this is a ChildrenPlanned that can be read."""
    return event.type == facts.CHILDREN_PLANNED and plan_of(event) is not None


def place_of(parent: str) -> Place | None:
    """Return the place in a header; None if it cannot be read."""
    try:
        return _place.decode(parent)
    except msgspec.DecodeError:
        return None


def ended_of(event: Envelope) -> Ended | None:
    """Return the end in a ChildEnded; None if it cannot be read."""
    try:
        return _ended.decode(event.data)
    except msgspec.DecodeError:
        return None


def child_id(run: str, step: str, trigger: str, place: int) -> str:
    """Return the id of a child's start event, which is the id of its run."""
    return ids.derive("child", run, step, trigger, place)


def crossings(event: Envelope, planned: Envelope | None = None) -> list[Envelope]:
    """Return the facts of other logs that follow from this one, in order.

    `planned`: the ChildrenPlanned that an order is about. Nothing for any other fact, and for one that cannot be read.
    """
    if event.type == facts.CHILD_ENDED:
        return _carried_up(event)
    if event.type in ORDERS and planned is not None and planned.type == facts.CHILDREN_PLANNED:
        plan = plan_of(planned)
        return _carried_down(event, planned, plan) if plan is not None else []
    return []


def _carried_up(event: Envelope) -> list[Envelope]:
    """Return a child's end for its parent's log; the copy there has no parent header, and crosses no more."""
    place = place_of(event.parent) if event.parent else None
    if place is None:
        return []
    copy = replace(
        event,
        id=ids.derive("crossed", event.id),
        key=place.key,
        flow=place.flow,
        run=place.run,
        step=place.step,
        trigger=place.trigger,
        causation=event.id,
        n=place.place,
        round=event.n,
        parent="",
        source=SOURCE,
        moved=False,
    )
    return [copy]


def _carried_down(event: Envelope, planned: Envelope, plan: Plan) -> list[Envelope]:
    only = _only(event)
    first = planned.n * plan.size
    made = [
        _for_child(event, plan, start, first + at) for at, start in enumerate(plan.starts) if not only or at in only
    ]
    if event.type != facts.CHILDREN_DUE:
        return [replace(told, type=_DOWN[event.type], id=ids.derive("crossed", event.id, told.run)) for told in made]
    return [
        replace(
            told,
            type=plan.type,
            id=told.run,
            parent=encode(Place(event.flow, event.key, event.run, event.step, event.trigger, first + at)).decode(),
            reason="",
            content_type=plan.content_type,
            data=plan.starts[at].data,
        )
        for at, told in enumerate(made)
    ]


def _only(event: Envelope) -> frozenset[int]:
    """Return the children of the batch that the order is about; empty: all."""
    try:
        return _places.decode(event.data) if event.data else frozenset()
    except msgspec.DecodeError:
        return frozenset()


def _for_child(event: Envelope, plan: Plan, start: Start, place: int) -> Envelope:
    """Return the common fields of all events for one child."""
    return Envelope(
        id="",
        type="",
        key=start.key,
        flow=plan.flow,
        run=child_id(event.run, event.step, event.trigger, place),
        causation=event.id,
        version=plan.version,
        build=event.build,
        n=event.round,
        reason=event.reason,
        source=SOURCE,
        time_ms=event.time_ms,
        **fields_of(carried_of(event)),
    )
