"""The bridge's rules as a project declares them: each carried event read, made anew where a function does, and checked.

Calls the project's functions, which are pure. Knows codecs, and no log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from choreo.app.limits import checked_key
from choreo.core.bridge import Content, Rule, carried, on_circle
from choreo.core.checks import carries as checks_carries
from choreo.core.checks import checks
from choreo.core.checks import children as checks_children
from choreo.core.crossing import CROSSING, ORDERS, crossings, is_plan
from choreo.core.declare.carries import Carry
from choreo.core.declare.flow import Flow
from choreo.core.definition import CHILDREN_RULE, FlowDefinition
from choreo.core.errors import ChoreoError, ConflictError, DecodeError, described
from choreo.core.events import Envelope
from choreo.core.keys import key_text, require_own_key
from choreo.ports.codec import Codec


class CarryRule:
    """`choreo.core.bridge.Rule` of one `Flow.carries`."""

    def __init__(
        self, source: FlowDefinition, target: FlowDefinition, carry: Carry, codec: Codec, *, circle: bool
    ) -> None:
        """Keep the parts. `circle`: see `choreo.core.bridge.carried`."""
        self.name: str = carry.definition.name
        self.types: frozenset[str] = frozenset({carry.on.event_type})
        self._source = source
        self._target = target
        self._carry = carry
        self._codec = codec
        self._circle = circle
        self._is_copy = carry.makes is None and source.key == target.key

    def refers(self, event: Envelope) -> int:  # noqa: ARG002 - the port's
        """Return -1: everything is in the event."""
        return -1

    def say(self, event: Envelope, referred: Envelope | None) -> Sequence[Envelope]:  # noqa: ARG002 - the port's
        """Return the carried event; none where the function returns None. Raises ChoreoError; see the port."""
        if self._is_copy:
            content = Content(event.type, event.key, event.content_type, event.data)
        else:
            read = self._codec.decode(self._carry.on, event.content_type, event.data)
            made = self._made(require_own_key(read, self._source.key, event.key))
            if made is None:
                return ()
            key = self._key_of(made)
            content = Content(type(made).event_type, key, self._codec.content_type, self._codec.encode(made))
        return (carried(self._source, self._target, event, content, circle=self._circle),)

    def _made(self, event: Any) -> Any:
        """Return the other flow's event; raises ConflictError where the function fails or returns another class."""
        if self._carry.makes is None:
            return event
        where = f"flow {self._source.name}, carries {event.event_type}, makes={self._carry.makes.__name__}"
        try:
            made = self._carry.makes(event)
        except ChoreoError:
            raise
        except Exception as error:
            raise ConflictError(
                f"the function failed: {described(error)}",
                where=where,
                remedy="Correct it, then redrive the dead letter.",
            ) from error
        if made is not None and type(made) not in self._carry.says:
            names = " | ".join([*(cls.event_type for cls in self._carry.says), "None"])
            raise ConflictError(
                f"it returned {type(made).__name__}", where=where, remedy=f"Return {names}, as it is hinted."
            )
        return made

    def _key_of(self, made: Any) -> str:
        where = f"{type(made).event_type}.{self._target.key}"
        try:
            return checked_key(key_text(getattr(made, self._target.key, None)), where)
        except TypeError as error:
            raise DecodeError(
                str(error), where=where, remedy=f"Give the business key of flow {self._target.name}."
            ) from error


class ChildrenRule:
    """`choreo.core.bridge.Rule` of the facts between a parent and its children."""

    name: str = CHILDREN_RULE
    types: frozenset[str] = CROSSING

    def __init__(self, flows: Collection[str]) -> None:
        """Know the flows of the project."""
        self._flows = frozenset(flows)

    def refers(self, event: Envelope) -> int:
        """Return the offset of the ChildrenPlanned that an order of the parent is about."""
        return event.outcome if event.type in ORDERS else -1

    def say(self, event: Envelope, referred: Envelope | None) -> Sequence[Envelope]:
        """Return the fact as it stands in the other log; nothing of a copy that has crossed already.

        Raises ConflictError where its batch of children cannot be read, or the other flow is not in the project.
        """
        where = f"{event.type} of flow {event.flow}, run {event.run}"
        if event.type in ORDERS and (referred is None or not is_plan(referred)):
            raise ConflictError(
                f"offset {event.outcome} holds no batch of children that can be read",
                where=where,
                remedy="Keep the log for as long as its runs last; cancel the run, or resolve its entry by hand.",
            )
        said = crossings(event, referred)
        for other in said:
            if other.flow not in self._flows:
                raise ConflictError(
                    f"there is no flow {other.flow!r} in this project",
                    where=where,
                    remedy="Name it in the project's flows, then redrive the dead letter.",
                )
        return said


def rules(flows: Mapping[str, Flow], definitions: Mapping[str, FlowDefinition], codec: Codec) -> dict[str, list[Rule]]:
    """Return the rules of each flow that has any."""
    found: dict[str, list[Rule]] = {}
    for name, flow in flows.items():
        source = definitions[name]
        for carry in flow.carried:
            circle = on_circle(definitions, source, carry.definition)
            rule = CarryRule(source, definitions[carry.to.name], carry, codec, circle=circle)
            found.setdefault(name, []).append(rule)
        if CHILDREN_RULE in source.crossings:
            found.setdefault(name, []).append(ChildrenRule(definitions))
    return found


def findings(flows: Mapping[str, Flow]) -> list[checks.Finding]:
    """Return the findings about carried events and child flows. Raises DeclarationError on a bad flow."""
    if not any(flow.carried or flow.child_flows for flow in flows.values()):
        return []
    for flow in flows.values():
        for carry in flow.carried:
            carry.require_same_classes(flow.name)
    drafts = {name: flow.draft() for name, flow in flows.items()}
    return [*checks_carries.between(drafts), *checks_children.between(drafts)]
