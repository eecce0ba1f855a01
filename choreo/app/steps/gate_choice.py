"""The gates that a service needs: waits, joins and needed events of its handlers, and the types it reads for them.

A service with steps on single events of other steps needs none.
"""

from __future__ import annotations

from choreo.app.steps.gates import GateBook
from choreo.app.steps.handlers import RUN_FACTS, Handlers
from choreo.core import facts, gates
from choreo.core.definition import WaitDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Reads
from choreo.ports.inbox import Inbox


def gates_of(table: FlowTable, handlers: Handlers, inbox: Inbox) -> GateBook:
    """Return the gates of a service; it has none if each of its steps starts at one event that no wait is for."""
    waits, types, reads = _gates_of(table, handlers)
    versions = {}
    for version, other in handlers.versions.items():
        more, others, versions[version] = _gates_of(table.nearest(version), other)
        waits, types = [*waits, *more], types | others
    folded = frozenset(types | RUN_FACTS | {table.flow.starts}) if types else frozenset[str]()
    return GateBook(table, waits, folded, inbox, reads, versions)


def _gates_of(table: FlowTable, handlers: Handlers) -> tuple[list[WaitDefinition], set[str], Reads]:
    """Return the waits, the types to fold and the reads of the handlers of one version."""
    steps, undoing = handlers.steps, [each for spec in handlers.undo.values() for each in spec.parameters[1:]]
    reads = gates.reads_of(steps, undoing)
    wanted = {type_ for step in steps for type_ in step.triggers} | reads.needed.keys()
    waits = list(table.gate_waits(wanted))
    types = {type_ for step in steps if step.name in reads.steps for type_ in step.triggers} | reads.needed.keys()
    for wait in waits:
        types |= {wait.on, *wait.answers, wait.late, wait.moved_by, *wait.says}
        types |= {facts.WAIT_CLOSED} if wait.optional else set()
    types |= {facts.COMPENSATION_REQUESTED} if reads.undoes else set()
    return waits, types - {""}, reads


def runs_of(table: FlowTable, inbox: Inbox) -> GateBook:
    """Return the open runs of each key alone, for events without a run id."""
    return GateBook(table, (), {table.flow.starts} | facts.ENDS, inbox)
