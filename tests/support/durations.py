"""The flow's durations for the auditor: it knows nothing of choreo, so a test reads them for it."""

from choreo.core.definition import FlowDefinition
from tests.audit.shape import Durations


def durations_of(flow: FlowDefinition) -> Durations:
    """Return those of a flow as it runs, divided or not."""
    return Durations(
        wait_ms={wait.name: wait.timeout_ms for wait in flow.waits},
        flow_ms=flow.deadline_ms,
        step_ms={step.name: step.deadline_ms for step in flow.steps},
        undo_ms={step.name: step.compensation.deadline_ms for step in flow.steps if step.compensation},
        end_ms=flow.deadline_ms + flow.end_bound_ms,
    )
