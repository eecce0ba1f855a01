"""Branches of a step host: which steps of its service a trigger does not start, by the conditions of the flow."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.app.steps.handlers import Handlers
from choreo.core.errors import DecodeError
from choreo.core.events import Record
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
