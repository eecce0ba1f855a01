"""Readers of payloads for a fold: the filterable fields of a start event, and the fields that conditions need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choreo.app.query.flows import EventClasses
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
