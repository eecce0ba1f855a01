"""The id by which an event is known: its producer's, or one derived from that and its source. Pure.

An id counts within its flow, source and key (CloudEvents 1.0, `id`): two producers may both number from 1.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import ids
from choreo.core.events import Envelope, Record

OWN_SOURCES = "choreo/"
"""Prefix of the source of choreo's events. Events without a source are choreo's too."""


def is_foreign(event: Envelope) -> bool:
    """Return whether a producer outside choreo made the event."""
    source = event.source
    return source != "" and source[: len(OWN_SOURCES)] != OWN_SOURCES


def identified(record: Record) -> Envelope:
    """Return the record's event with the id by which it is known.

    An event without an id gets one from its first position. The run that a foreign producer names is one that it
    started, unless choreo has made its id.
    """
    event = record.event
    if not event.id:
        id_ = ids.foreign(record.topic, record.partition, record.offset, record.log_id)
        return replace(event, id=id_, run=_known_run(event))
    if not is_foreign(event) or ids.is_of_source(event.id):
        return event
    return replace(event, id=ids.of_source(event.flow, event.source, event.id, event.key), run=_known_run(event))


def _known_run(event: Envelope) -> str:
    run = event.run
    if not run or not is_foreign(event) or ids.is_derived(run):
        return run
    return ids.of_source(event.flow, event.source, run, event.key)
