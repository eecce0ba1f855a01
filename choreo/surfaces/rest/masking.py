"""Hide the values of sensitive fields from callers that are not operators of the flow.

Knows the declared marks and the answers' models; decides nothing about routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from choreo.app.query.flows import Flows
from choreo.app.query.history import HistoryRow
from choreo.core import facts
from choreo.core.access import Caller, Role
from choreo.event.sensitive import HIDDEN, Mask, mask_of, masked
from choreo.ports.read_model import InstanceView
from choreo.surfaces.rest.access_control import ForbiddenError

_OF_OTHER_FLOWS = frozenset({facts.CHILDREN_PLANNED, facts.CHILDREN_DUE, facts.CHILD_ENDED})
"""Facts that hold fields of other flows' events."""


class Masking:
    """The marks of every flow."""

    def __init__(self, flows: Flows) -> None:
        """Read the classes' marks."""
        self._masks: dict[tuple[str, str], Mask] = {
            (flow, type_): mask
            for flow, classes in flows.classes.items()
            for type_, class_ in classes.items()
            if (mask := mask_of(class_))
        }
        self._attributes = {flow: frozenset(self._hidden_attributes(flows, flow)) for flow in flows.names}

    def hides(self, caller: Caller, flow: str, type_: str) -> bool:
        """Return whether something in an event of this type is hidden from the caller."""
        return self._mask(caller, flow, type_) is not None

    def row(self, caller: Caller, flow: str, row: HistoryRow) -> HistoryRow:
        """Return a row of the history as the caller may see it."""
        mask = self._mask(caller, flow, row.type)
        if mask is None:
            return row
        fields = dict.fromkeys(row.fields, HIDDEN) if row.type in _OF_OTHER_FLOWS else masked(row.fields, mask)
        unreadable = "its fields cannot be decoded" if row.unreadable else ""
        return msgspec.structs.replace(row, fields=fields, unreadable=unreadable)

    def command(self, caller: Caller, flow: str, command: str) -> str:
        """Return the next command of `why`, which may publish the fields of an event again."""
        begin, option, _ = command.partition(" --json ")
        if not option or caller.may(Role.OPERATOR, flow) or all(name != flow for name, _ in self._masks):
            return command
        return f"{begin}{option}{HIDDEN}"

    def instances(self, caller: Caller, rows: Sequence[InstanceView]) -> list[InstanceView]:
        """Return runs as the caller may see them."""
        return [self.instance(caller, row) for row in rows]

    def instance(self, caller: Caller, row: InstanceView) -> InstanceView:
        """Return one run as the caller may see it."""
        hidden = self._attributes.get(row.flow)
        if not hidden or caller.may(Role.OPERATOR, row.flow):
            return row
        attributes = {name: HIDDEN if name in hidden else value for name, value in row.attributes.items()}
        return msgspec.structs.replace(row, attributes=attributes)

    def require_filters(self, caller: Caller, flow: str, names: Iterable[str]) -> None:
        """Raise ForbiddenError on a filter by a hidden value: its answer would tell the value."""
        hidden = self._attributes.get(flow, frozenset()) & {*names}
        if hidden and not caller.may(Role.OPERATOR, flow):
            raise ForbiddenError(
                f"{', '.join(sorted(hidden))} is sensitive, and {caller.actor.shown} may not filter by it",
                where="filter",
                remedy="This needs the role operator.",
            )

    def _mask(self, caller: Caller, flow: str, type_: str) -> Mask | None:
        if not self._masks or caller.may(Role.OPERATOR, flow):
            return None
        return {} if type_ in _OF_OTHER_FLOWS else self._masks.get((flow, type_))

    def _hidden_attributes(self, flows: Flows, flow: str) -> list[str]:
        definition = flows.definition(flow)
        start: Any = self._masks.get((flow, definition.starts), {})
        declared = [
            attribute.name
            for attribute in definition.attributes
            for source in attribute.sources
            if source.field in self._masks.get((flow, source.type), {})
        ]
        return [*start, *declared]
