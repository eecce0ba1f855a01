"""The flows that a process knows, by name: their definitions, tables and event classes. Unknown names are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choreo.core.definition import FlowDefinition
from choreo.core.errors import DecodeError, NotFoundError
from choreo.core.flow_table import FlowTable
from choreo.core.wording import did_you_mean

EventClasses = Mapping[str, type[Any]]


class Flows:
    """The lookup of flows for every use case. `classes`: for each flow its event classes by type."""

    def __init__(self, definitions: Mapping[str, FlowDefinition], classes: Mapping[str, EventClasses]) -> None:
        """Keep the flows. A flow loaded from JSON may have no classes: it can be read, but not published to."""
        self.definitions: dict[str, FlowDefinition] = dict(definitions)
        self.classes: dict[str, dict[str, type[Any]]] = {name: dict(classes.get(name, {})) for name in definitions}
        self._tables = {name: FlowTable(definition) for name, definition in definitions.items()}

    @property
    def names(self) -> list[str]:
        """Return every flow's name, in order."""
        return sorted(self.definitions)

    def definition(self, flow: str) -> FlowDefinition:
        """Return the flow's definition; raises NotFoundError with the known names."""
        return self.table(flow).flow

    def table(self, flow: str) -> FlowTable:
        """Return the flow's tables; raises NotFoundError with the known names."""
        table = self._tables.get(flow)
        if table is None:
            known = ", ".join(self.names) or "none"
            raise NotFoundError(
                f"there is no flow {flow!r}",
                where="flows",
                remedy=f"{did_you_mean(flow, self.names)}Known here: {known}.",
            )
        return table

    def event_class(self, flow: str, type_: str) -> type[Any]:
        """Return the class of an event of this flow; raises DecodeError with the known types."""
        known = self.classes[self.definition(flow).name]
        if type_ not in known:
            raise DecodeError(
                f"{type_!r} is no event of this flow",
                where=f"flow {flow}, type",
                remedy=f"{did_you_mean(type_, known)}"
                f"Its events: {', '.join(sorted(known)) or 'none that this process has the classes of'}.",
            )
        return known[type_]
