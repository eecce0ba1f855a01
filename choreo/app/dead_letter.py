"""A dead letter of a record, as every role makes it: with an id of its own, and without secrets."""

from __future__ import annotations

from choreo.core import ids
from choreo.core.events import Record
from choreo.ports.dead_letters import DeadLetter
from choreo.redaction import redact


def dead_letter_of(record: Record, service: str, step: str, cause: str, now_ms: int, *, made_by: str) -> DeadLetter:
    """Return the record as a dead letter; `made_by` derives its id, so that each reader of the record has one."""
    place = (record.topic, record.partition, record.offset)
    return DeadLetter(ids.derive("letter", *place, made_by), *place, service, step, redact(cause), now_ms, record)
