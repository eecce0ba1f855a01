"""The flow's durations for the auditor: it knows nothing of choreo, so a test reads them for it."""

from choreo.core.definition import FlowDefinition
from tests.audit.shape import Durations


def durations_of(flow: FlowDefinition) -> Durations:
    """Return those of the reference flow as it runs, divided or not."""
    return Durations(
        wait_ms=flow.waits[0].timeout_ms,
        flow_ms=flow.deadline_ms,
        step_ms={step.name: step.deadline_ms for step in flow.steps},
        undo_ms={step.name: step.compensation.deadline_ms for step in flow.steps if step.compensation},
        end_ms=flow.deadline_ms + flow.end_bound_ms,
    )
