"""Branches of a step host: which steps of its service a trigger does not start, by the conditions of the flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from choreo.app.steps.handlers import Handlers, HandlerSpec
from choreo.core.errors import DecodeError
from choreo.core.events import Envelope, Record
from choreo.core.fields import UnreadableFieldError
from choreo.core.flow_table import FlowTable
from choreo.ports.codec import Codec


class BranchJudge:
    """Judges the triggers of one service in one flow, as the tracker does."""

    def __init__(self, table: FlowTable, handlers: Handlers, codec: Codec) -> None:
        """Decode the triggers of steps with conditions, and no others."""
        self._codec = codec
        tables = (table, *table.versions.values())
        self._table = table
        self._takes = {
            type_: each.forward[step.name].takes[type_]
            for each in handlers.whole
            for step in each.steps
            for type_ in step.triggers
            if any(type_ in version.branches for version in tables)
        }

    def skipped(self, record: Record, version: int = 0) -> tuple[str, ...]:
        """Return the steps that this trigger does not start, in a run of this version (0: the version it names).

        None where it cannot be decoded: each attempt then fails with the cause, and the record is a dead letter.
        """
        event = record.event
        if event.type not in self._takes:
            return ()
        table = self._table.nearest(version or event.version)
        branches = table.branches.get(event.type)
        if branches is None:
            return ()
        try:
            fields = self._codec.values(self._takes[event.type], event.content_type, event.data)
        except DecodeError:
            return ()
        judged = branches.judge(replace(record, fields=fields))
        return () if judged.unreadable else judged.skips

    def skips_join(self, spec: HandlerSpec, parts: Sequence[Sequence[Envelope]] | None, version: int) -> bool:
        """Return whether a join does not start with these arguments; False where one of them cannot be read."""
        table = self._table.nearest(version)
        branches = table.join_branches.get(spec.step)
        if branches is None or parts is None:
            return False
        members = table.steps[spec.step].all_of
        events = {event.type: event for events in parts for event in events if event.type in members}
        try:
            return spec.step in branches.skipped(self._fields(spec, events))
        except (DecodeError, UnreadableFieldError):
            return False

    def _fields(self, spec: HandlerSpec, events: Mapping[str, Envelope]) -> dict[str, Any]:
        """Return the fields of a join's events by their keys in conditions."""
        return {
            f"{type_}.{name}": value
            for type_, event in events.items()
            for name, value in self._codec.values(spec.takes[type_], event.content_type, event.data).items()
        }
