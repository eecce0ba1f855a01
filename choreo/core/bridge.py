"""Rules of the bridge, which publishes an event of one flow in the log of another: the interface, and carried events.

Pure: a rule turns one event into events of other logs, each with a derived id, so that an event which is read twice,
or by two bridges, adds only duplicates. Knows no log and no codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from choreo.core import ids
from choreo.core.baggage import carried_of, fields_of
from choreo.core.definition import CarryDefinition, FlowDefinition
from choreo.core.errors import ConflictError, printable
from choreo.core.events import Envelope

SOURCE = "choreo/bridge"
REASON_MAX = 1_000
"""In characters, as of every reason: a key has at most 512."""


class Rule(Protocol):
    """A rule turns some events of one flow into events of others."""

    @property
    def name(self) -> str:
        """Return the name by which dead letters and redrives call it."""
        ...

    @property
    def types(self) -> frozenset[str]:
        """Return the event types that it is about."""
        ...

    def refers(self, event: Envelope) -> int:
        """Return the offset of another record, in the event's partition, that `say` needs; -1 for none."""
        ...

    def say(self, event: Envelope, referred: Envelope | None) -> Sequence[Envelope]:
        """Return the events to publish, each in the log of its `flow`; the same for the same event.

        Raises StorageError where it cannot tell now, any other ChoreoError where it never can: a dead letter.
        """
        ...


class Content(NamedTuple):
    """The part of a carried event that its rule reads, or makes, with a codec."""

    type: str
    key: str
    content_type: str
    data: bytes


def carried(
    source: FlowDefinition, target: FlowDefinition, event: Envelope, content: Content, *, circle: bool
) -> Envelope:
    """Return the event that is published in `target` because of `event`, an event of `source`.

    A start of `target` begins a run of its own; any other event belongs to the key's open run. `circle`: the starts of
    runs may come back to `source`, so that hops are counted on. Raises ConflictError on one hop too many.
    """
    hops = event.hops + 1 if circle else 0
    if circle and source.hops_max and hops > source.hops_max:
        raise ConflictError(
            f"more than {source.hops_max} hops: {event.type} came round too often",
            where=f"flow {source.name}, carried to flow {target.name}",
            remedy="Let the circle of flows end by itself, or raise Flow(max_hops=...).",
        )
    id_ = ids.carried(source.name, event.id, target.name)
    return Envelope(
        id=id_,
        type=content.type,
        key=content.key,
        flow=target.name,
        run=id_ if content.type == target.starts else "",
        causation=event.id,
        version=target.version,
        build=event.build,
        hops=hops,
        reason=printable(f"carried from flow {source.name}, key {event.key}", REASON_MAX),
        source=SOURCE,
        time_ms=event.time_ms,
        **fields_of(carried_of(event)),
        content_type=content.content_type,
        data=content.data,
    )


def on_circle(flows: Mapping[str, FlowDefinition], flow: FlowDefinition, carry: CarryDefinition) -> bool:
    """Return whether runs that this rule starts may lead to starts of runs of `flow` again."""
    target = flows.get(carry.to)
    if target is None or target.starts not in carry.says:
        return False
    return flow.name in reached(carry.to, lambda name: starts(flows, flows[name]))


def reached(name: str, after: Callable[[str], Iterable[str]]) -> set[str]:
    """Return this flow, and those that its runs lead to, directly or through others; `after` gives the next ones."""
    found, front = set[str](), {name}
    while front:
        found |= front
        front = {following for each in front for following in after(each)} - found
    return found


def starts(flows: Mapping[str, FlowDefinition], flow: FlowDefinition) -> list[str]:
    """Return the flows of which this one starts runs by carried events, in declared order."""
    return [carry.to for carry in flow.carries if carry.to in flows and flows[carry.to].starts in carry.says]
