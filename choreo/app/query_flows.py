"""The flows a process knows, by name: their definitions, tables and event classes. What is not known is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.errors import DecodeError, NotFoundError

EventClasses = Mapping[str, type[Any]]


class Flows:
    """Looked up by every use case behind the doors. `classes`: for each flow its event classes by type."""

    def __init__(self, definitions: Mapping[str, FlowDefinition], classes: Mapping[str, EventClasses]) -> None:
        """A flow loaded from JSON may have no classes: it can be looked at, but nothing can be published to it."""
        self.definitions: dict[str, FlowDefinition] = dict(definitions)
        self.classes: dict[str, dict[str, type[Any]]] = {name: dict(classes.get(name, {})) for name in definitions}
        self._tables = {name: FlowTable(definition) for name, definition in definitions.items()}

    @property
    def names(self) -> list[str]:
        """Every flow's name, in order."""
        return sorted(self.definitions)

    def definition(self, flow: str) -> FlowDefinition:
        """The flow's definition; raises NotFoundError naming those there are."""
        return self.table(flow).flow

    def table(self, flow: str) -> FlowTable:
        """The flow's tables; raises NotFoundError naming those there are."""
        table = self._tables.get(flow)
        if table is None:
            raise NotFoundError(
                f"there is no flow {flow!r}", where="flows", remedy=f"Known here: {', '.join(self.names) or 'none'}."
            )
        return table

    def event_class(self, flow: str, type_: str) -> type[Any]:
        """The class of an event of this flow; raises DecodeError naming the types there are."""
        known = self.classes[self.definition(flow).name]
        if type_ not in known:
            raise DecodeError(
                f"{type_!r} is no event of this flow",
                where=f"flow {flow}, type",
                remedy=f"Its events: {', '.join(sorted(known)) or 'none that this process has the classes of'}.",
            )
        return known[type_]
