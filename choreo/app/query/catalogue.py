"""The catalogue of events: declared producers and consumers beside those seen in the log; differences are drift."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from choreo.app.query.read_your_writes import token_of
from choreo.app.query.sightings import OTHERS, SeenType, Sighting, Sightings
from choreo.core.bridge import SOURCE as BRIDGE
from choreo.core.definition import FlowDefinition
from choreo.core.errors import ChoreoError
from choreo.core.flow_table import FlowTable
from choreo.core.fold import TRACKER
from choreo.ports.codec import Codec

OUTSIDE = "outside"
OPERATOR = "choreo/operator"
"""Redrives and repeats records that stand in the log already."""
_OURS = frozenset({TRACKER, BRIDGE, OPERATOR})


class SeenPart(msgspec.Struct, frozen=True):
    """A producer or version of an event that was seen."""

    name: str
    count: int
    last_ms: int
    declared: bool


class SeenSchema(msgspec.Struct, frozen=True):
    """A schema in which an event was seen, compared with the declared class by one sample."""

    name: str
    count: int
    last_ms: int
    missing: list[str]
    """Declared fields that the sample has not: they have defaults, or it cannot be read."""
    extra: list[str]
    """Fields of the sample that are not declared."""
    unreadable: str
    """Why the present class cannot read it; "" if it can."""


class Consumer(msgspec.Struct, frozen=True):
    """A declared consumer of an event, and when it was last seen to make an event."""

    name: str
    last_ms: int
    """0: not among the records looked at, or a wait, which the tracker folds."""


class EventEntry(msgspec.Struct, frozen=True):
    """An event type of a flow."""

    flow: str
    type: str
    declared: bool
    producers: list[str]
    """Declared: steps, `outside`, `tracker`."""
    consumers: list[Consumer]
    seen_producers: list[SeenPart]
    versions: list[SeenPart]
    """Versions of the flow in which it was seen."""
    schemas: list[SeenSchema]
    count: int
    """Events among the records looked at."""
    first_ms: int
    last_ms: int
    position: str
    """The last one; "" if none was seen."""
    drift: list[str]
    """Sentences: each a difference between declaration and log."""


class Catalogue(msgspec.Struct, frozen=True):
    """The events of a flow."""

    flow: str
    items: list[EventEntry]
    """Those with drift first, then by name."""
    records: int
    """Records that were looked at."""
    since_ms: int
    """Stamp of the oldest one."""

    @property
    def drift(self) -> list[str]:
        """Return every difference, each with its type."""
        return [f"{each.type}: {sentence}" for each in self.items for sentence in each.drift]


def catalogue(table: FlowTable, classes: Mapping[str, type[Any]], codec: Codec, seen: Sightings) -> Catalogue:
    """Return the catalogue of a flow, of its declaration and all that was seen."""
    flows = [table.flow, *(each.flow for each in table.versions.values())]
    declared = {type_ for flow in flows for type_ in flow.types}
    items = [
        _entry(flows, type_, type_ in declared, classes.get(type_), codec, seen)
        for type_ in sorted(declared | set(seen.types))
    ]
    items.sort(key=lambda entry: (not entry.drift, entry.type))
    return Catalogue(table.flow.name, items, seen.records, seen.since_ms)


def _entry(
    flows: Sequence[FlowDefinition],
    type_: str,
    declared: bool,  # noqa: FBT001 - a value of the entry
    class_: type[Any] | None,
    codec: Codec,
    all_seen: Sightings,
) -> EventEntry:
    seen = all_seen.types.get(type_, SeenType())
    producers = list(dict.fromkeys(name for flow in flows for name in _producers(flow, type_)))
    consumers = list(dict.fromkeys(name for flow in flows for name in _consumers(flow, type_)))
    versions = {str(flow.version) for flow in flows}
    steps = {step.name for flow in flows for step in flow.steps}
    seen_producers = [_part(each, _is_declared(each.name, producers, steps)) for each in seen.producers.values()]
    seen_versions = [_part(each, each.name in versions) for each in seen.versions.values()]
    schemas = [_schema(each, class_, codec) for each in seen.schemas.values()]
    return EventEntry(
        flows[0].name,
        type_,
        declared,
        producers,
        [Consumer(name, all_seen.steps.get(name, 0)) for name in consumers],
        seen_producers,
        seen_versions,
        schemas,
        seen.total.count,
        seen.total.first_ms,
        seen.total.last_ms,
        token_of(seen.position) if seen.position else "",
        list(_drift(declared, seen_producers, seen_versions, schemas)),
    )


def _producers(flow: FlowDefinition, type_: str) -> Iterator[str]:
    for step in flow.steps:
        undone = step.compensation.emits if step.compensation else ()
        if type_ in (*step.emits, *step.fails, *undone):
            yield step.name
    if type_ in (flow.starts, *flow.movers_outside, *(answer for wait in flow.waits for answer in wait.answers)):
        yield OUTSIDE
    if type_ in (flow.fails, *(said for wait in flow.waits for said in (wait.late, *wait.says))):
        yield "tracker"


def _consumers(flow: FlowDefinition, type_: str) -> Iterator[str]:
    for step in flow.steps:
        if type_ in step.triggers:
            yield step.name
    for wait in flow.waits:
        if type_ in (wait.on, wait.moved_by, *wait.answers):
            yield wait.name


def _is_declared(name: str, producers: Sequence[str], steps: Collection[str]) -> bool:
    """Return whether a producer may emit the type: a step that declares it, anybody but steps if it is from outside."""
    return name in producers or name in _OURS or name == OTHERS or (OUTSIDE in producers and name not in steps)


def _part(seen: Sighting, declared: bool) -> SeenPart:  # noqa: FBT001 - a value of the part
    return SeenPart(seen.name, seen.count, seen.last_ms, declared)


def _schema(seen: Sighting, class_: type[Any] | None, codec: Codec) -> SeenSchema:
    """Compare a sample with the class; without a class there is nothing to compare with."""
    missing: list[str] = []
    extra: list[str] = []
    unreadable = ""
    event = seen.sample
    if event is not None and class_ is not None:
        known = set(class_.event_fields())
        try:
            codec.fields(class_, event.content_type, event.data)
        except ChoreoError as error:
            unreadable = f"{error.where}: {error.what}" if error.where else error.what
        # A schema that is known only by its class is the declared one.
        with suppress(ChoreoError):
            written = set(codec.fields(None, event.content_type, event.data))
            missing, extra = sorted(known - written), sorted(written - known)
    return SeenSchema(seen.name, seen.count, seen.last_ms, missing, extra, unreadable)


def _drift(
    declared: bool,  # noqa: FBT001 - a value of the entry
    producers: Sequence[SeenPart],
    versions: Sequence[SeenPart],
    schemas: Sequence[SeenSchema],
) -> Iterator[str]:
    """Yield each difference between declaration and log."""
    if not declared:
        by = ", ".join(each.name for each in producers)
        yield f"the flow declares no such event, and {by} publishes it"
    for each in producers:
        if declared and not each.declared:
            yield f"{each.name} publishes it and does not declare it"
    for each in versions:
        if not each.declared:
            yield f"it was published in version {each.name}, which is not known here"
    for schema in schemas:
        if schema.unreadable:
            yield f"{schema.name} cannot be read: {schema.unreadable}"
        if schema.extra:
            yield f"{schema.name} has fields that are not declared: {', '.join(schema.extra)}"
