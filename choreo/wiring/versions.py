"""Frozen versions of the project's flows, as the roles of a process need them: runs are folded by their own version."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from choreo.adapters import frozen_flows
from choreo.adapters.frozen_flows import FrozenFlows
from choreo.core.definition import FlowDefinition

_log = logging.getLogger(__name__)


def with_frozen(declared: FlowDefinition, frozen: FrozenFlows, schemas: Path) -> FlowDefinition:
    """Return the flow with its frozen versions; as it is where no version of it is frozen.

    A file that cannot be read is reported; events of its version are set aside with that cause. Raises SchemaError
    where the flow differs from the file of its version in a way that runs in flight cannot bear.
    """
    if not frozen.numbers(declared.name):
        return declared
    for (flow, _), fault in frozen.faults.items():
        if flow == declared.name:
            _log.error("%s", fault.sentence)
    breaking = [each for each in frozen_flows.check(declared, frozen, schemas) if each.breaks]
    if breaking:
        raise frozen_flows.joined([each.error for each in breaking], declared)
    others = [each.definition for number, each in frozen.of(declared.name).items() if number != declared.version]
    return replace(declared, frozen=(*others, declared))
