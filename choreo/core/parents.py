"""Which flows of a project start runs of which others as children. A declaration does not know its parents."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.core.definition import FlowDefinition


def with_parents(flows: Mapping[str, FlowDefinition]) -> dict[str, FlowDefinition]:
    """Return the flows of a project, each with its parents."""
    parents: dict[str, tuple[str, ...]] = {}
    for name, flow in flows.items():
        for child in sorted({step.children.flow for step in flow.steps if step.children}):
            parents[child] = (*parents.get(child, ()), name)
    changed = {name: msgspec.structs.replace(flows[name], parents=of) for name, of in parents.items() if name in flows}
    return {**flows, **changed}
