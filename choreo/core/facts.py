"""The types of choreo's own facts in the log: events of hosts, the tracker and operators besides domain events."""

from __future__ import annotations

PREFIX = "choreo."

# Published by a step host.
STEP_COMPLETED = "choreo.StepCompleted"  # a success of a step that emits nothing
STEP_FAILED = "choreo.StepFailed"  # failed for good without a declared event: in doubt unless certain
STEP_ATTEMPT_FAILED = "choreo.StepAttemptFailed"  # the next attempt is too far off for the host's memory
STEP_SKIPPED = "choreo.StepSkipped"  # its run is compensating, or its deadline has passed
STEP_HELD = "choreo.StepHeld"  # its run is paused
TRIGGER_IGNORED = "choreo.TriggerIgnored"  # a second trigger of a step that runs once a run
NOTHING_TO_COMPENSATE = "choreo.NothingToCompensate"
COMPENSATION_FAILED = "choreo.CompensationFailed"
CHILDREN_PLANNED = "choreo.ChildrenPlanned"  # a batch of starts of child flows; nothing is started yet

# Published by the tracker.
COMPENSATION_STARTED = "choreo.CompensationStarted"
COMPENSATION_REQUESTED = "choreo.CompensationRequested"
STEP_RETRY_DUE = "choreo.StepRetryDue"  # a timer fact after StepAttemptFailed, an answer after StepHeld
STEP_DEADLINE_PASSED = "choreo.StepDeadlinePassed"
COMPENSATION_DEADLINE_PASSED = "choreo.CompensationDeadlinePassed"
FLOW_DEADLINE_PASSED = "choreo.FlowDeadlinePassed"
WAIT_CLOSED = "choreo.WaitClosed"  # an optional wait, when all else of its run is done
FLOW_COMPLETED = "choreo.FlowCompleted"
FLOW_COMPENSATED = "choreo.FlowCompensated"
FLOW_STUCK = "choreo.FlowStuck"
CANCEL_REFUSED = "choreo.CancelRefused"
CHILDREN_DUE = "choreo.ChildrenDue"  # a planned batch may start: the bridge starts it
CHILDREN_COMPENSATION_REQUESTED = "choreo.ChildrenCompensationRequested"  # a started batch is to be undone
CHILDREN_PAUSED = "choreo.ChildrenPaused"
CHILDREN_RESUMED = "choreo.ChildrenResumed"
CHILDREN_TERMINATED = "choreo.ChildrenTerminated"
CHILDREN_COMPENSATED = "choreo.ChildrenCompensated"  # every child of a step is undone: the answer to its request
CHILD_ENDED = "choreo.ChildEnded"  # in the child's log; the bridge says it again in the parent's

# Published by the bridge, in the log of a child.
PARENT_COMPENSATION_REQUESTED = "choreo.ParentCompensationRequested"
PARENT_PAUSED = "choreo.ParentPaused"
PARENT_RESUMED = "choreo.ParentResumed"
PARENT_TERMINATED = "choreo.ParentTerminated"

# Published by an operator, through the CLI or REST.
CANCEL_REQUESTED = "choreo.CancelRequested"
FLOW_PAUSED = "choreo.FlowPaused"
FLOW_RESUMED = "choreo.FlowResumed"
FLOW_TERMINATED = "choreo.FlowTerminated"
COMPENSATION_RETRY_REQUESTED = "choreo.CompensationRetryRequested"
COMPENSATION_RESOLVED = "choreo.CompensationResolved"
REDRIVEN = "choreo.Redriven"  # a dead letter goes back to one step of one service

ENDS = frozenset({FLOW_COMPLETED, FLOW_COMPENSATED, FLOW_TERMINATED})
"""Facts that end a run (a FlowCompensated may find it open again, and then ends nothing)."""

PUBLISHED_BY_OPERATORS = frozenset(
    {
        CANCEL_REQUESTED,
        FLOW_PAUSED,
        FLOW_RESUMED,
        FLOW_TERMINATED,
        COMPENSATION_RETRY_REQUESTED,
        COMPENSATION_RESOLVED,
        REDRIVEN,
    }
)
"""People may name a run that never existed; all other facts of choreo follow from a start."""

TIMERS = frozenset({STEP_DEADLINE_PASSED, COMPENSATION_DEADLINE_PASSED, FLOW_DEADLINE_PASSED})
"""Always timer facts; StepRetryDue and a wait's `fails` event are timer facts when they carry `due_ms`."""

UNREADABLE = "choreo.Unreadable"
"""Never written: the type that a log adapter gives to a record with unreadable headers (`reason` has the error)."""
