"""Readers of payloads for a fold: the filterable fields of a start event, and the fields that conditions need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choreo.app.query.flows import EventClasses, Flows
from choreo.app.tracking.fold import AttributesOf, FieldsOf
from choreo.app.tracking.views import attributes_of
from choreo.core.errors import ChoreoError, DecodeError
from choreo.core.events import Envelope
from choreo.ports.codec import Codec


def attributes_reader(codec: Codec, start_class: type[Any]) -> AttributesOf:
    """Return a function that gives the filterable fields of a start event; none of an unreadable one."""

    def read(event: Envelope) -> Mapping[str, str]:
        try:
            return attributes_of(codec.fields(start_class, event.content_type, event.data))
        except ChoreoError:
            return {}  # the steps that need it report the fault, as a dead letter

    return read


def fields_reader(codec: Codec, classes: EventClasses) -> FieldsOf:
    """Return a function that gives the fields of an event of this flow as Python values, for its conditions."""

    def read(event: Envelope) -> Mapping[str, Any]:
        if event.type not in classes:
            raise DecodeError(
                "no event of the flow as it is declared now has this type",
                where=event.type,
                remedy="Keep the event's class until the runs of the version that decides by it have ended.",
            )
        return codec.values(classes[event.type], event.content_type, event.data)

    return read


def attributes_of_flows(codec: Codec, flows: Flows) -> AttributesOf:
    """Return a reader as `attributes_reader` gives, for the start events of every flow that has its classes here."""
    readers = {
        name: attributes_reader(codec, classes[flows.definition(name).starts])
        for name, classes in flows.classes.items()
        if flows.definition(name).starts in classes
    }

    def read(event: Envelope) -> Mapping[str, str]:
        reader = readers.get(event.flow)
        return reader(event) if reader else {}

    return read


def fields_of_flows(codec: Codec, flows: Flows) -> FieldsOf:
    """Return a reader as `fields_reader` gives, for the events of every flow."""
    readers = {name: fields_reader(codec, classes) for name, classes in flows.classes.items()}
    return lambda event: readers[event.flow](event)
