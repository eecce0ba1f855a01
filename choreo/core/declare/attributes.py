"""The search attributes of a flow while it is declared: each event and field is checked against the others."""

from __future__ import annotations

from choreo.core.attributes import KIND_OF, KINDS_SHOWN, AttributeDefinition, AttributeKind, AttributeSource
from choreo.core.checks.attributes import wrong_name
from choreo.core.declare.conditions import field_type
from choreo.core.declare.parts import one_class
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass


class Attributes:
    """The attributes declared so far, in order. Made by `Flow`."""

    def __init__(self, flow: str) -> None:
        """Begin with none."""
        self._flow = flow
        self._kinds: dict[str, AttributeKind] = {}
        self._sources: dict[str, list[AttributeSource]] = {}
        self.classes: list[EventClass] = []

    @property
    def definitions(self) -> tuple[AttributeDefinition, ...]:
        """Return them as plain data."""
        return tuple(AttributeDefinition(name, kind, tuple(self._sources[name])) for name, kind in self._kinds.items())

    def add(self, name: str, event: EventClass, field: str) -> None:
        """Let an event set an attribute; raises DeclarationError."""
        where = f"flow {self._flow}, attribute {name}"
        if wrong := wrong_name(name):
            raise DeclarationError(wrong, where=where, remedy="Give it another name.")
        cls = one_class(event, where, "event", 'Write attribute("name", Event, field="field"): a class has no fields.')
        kind = _kind(cls, field or name, where)
        known = self._kinds.setdefault(name, kind)
        place = f"{cls.event_type}.{field or name}"
        if known != kind:
            first = self._sources[name][0]
            raise DeclarationError(
                f"{place} is {KINDS_SHOWN[kind].partition(',')[0]}, and {first.type}.{first.field} "
                f"is {KINDS_SHOWN[known].partition(',')[0]}",
                where=where,
                remedy="Give the fields one kind, or the attributes two names.",
            )
        sources = self._sources.setdefault(name, [])
        if any(source.type == cls.event_type for source in sources):
            raise DeclarationError(
                f"{cls.event_type} sets it already", where=where, remedy="Name one field of each event."
            )
        sources.append(AttributeSource(cls.event_type, field or name))
        self.classes.append(cls)


def _kind(cls: EventClass, field: str, where: str) -> AttributeKind:
    """Return the kind of a field; raises DeclarationError on one that no attribute can have."""
    try:
        found = field_type(cls, field, where)
    except DeclarationError as error:
        if error.where == where:
            raise
        raise DeclarationError(
            f"{cls.event_type}.{field} holds no plain value: {error.what}", where=where, remedy=error.remedy
        ) from error
    if found is None:
        raise DeclarationError(
            f"{cls.event_type} tells no types of its fields",
            where=where,
            remedy="Declare it as a class of choreo.Event.",
        )
    return KIND_OF[found.kind]
