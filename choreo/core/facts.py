"""The names of choreo's own facts in the log: what hosts, the tracker and operators say besides domain events."""

from __future__ import annotations

PREFIX = "choreo."

# Said by a step host.
STEP_COMPLETED = "choreo.StepCompleted"  # a success of a step that emits nothing
STEP_FAILED = "choreo.StepFailed"  # failed for good without a declared event: in doubt unless certain
STEP_ATTEMPT_FAILED = "choreo.StepAttemptFailed"  # the next attempt is too far off to wait for in memory
STEP_SKIPPED = "choreo.StepSkipped"  # its run is turned, or its deadline has passed
STEP_HELD = "choreo.StepHeld"  # its run is paused
TRIGGER_IGNORED = "choreo.TriggerIgnored"  # a second trigger of a step that runs once a run
NOTHING_TO_UNDO = "choreo.NothingToUndo"
UNDO_FAILED = "choreo.UndoFailed"

# Said by the tracker.
FLOW_TURNED = "choreo.FlowTurned"
COMPENSATION_REQUESTED = "choreo.CompensationRequested"
STEP_RETRY_DUE = "choreo.StepRetryDue"  # a timer fact after StepAttemptFailed, an answer after StepHeld
STEP_DEADLINE_PASSED = "choreo.StepDeadlinePassed"
UNDO_DEADLINE_PASSED = "choreo.UndoDeadlinePassed"
FLOW_DEADLINE_PASSED = "choreo.FlowDeadlinePassed"
FLOW_COMPLETED = "choreo.FlowCompleted"
FLOW_COMPENSATED = "choreo.FlowCompensated"
FLOW_STUCK = "choreo.FlowStuck"
CANCEL_REFUSED = "choreo.CancelRefused"

# Said by an operator, through a door of ours.
CANCEL_REQUESTED = "choreo.CancelRequested"
FLOW_PAUSED = "choreo.FlowPaused"
FLOW_RESUMED = "choreo.FlowResumed"
FLOW_TERMINATED = "choreo.FlowTerminated"
UNDO_RETRY_REQUESTED = "choreo.UndoRetryRequested"
UNDO_RESOLVED = "choreo.UndoResolved"
REDRIVEN = "choreo.Redriven"  # a dead letter goes back to one step of one service

ENDS = frozenset({FLOW_COMPLETED, FLOW_COMPENSATED, FLOW_TERMINATED})
"""Facts that end a run (a FlowCompensated may find it open again, and then ends nothing)."""

SAID_BY_OPERATORS = frozenset(
    {
        CANCEL_REQUESTED,
        FLOW_PAUSED,
        FLOW_RESUMED,
        FLOW_TERMINATED,
        UNDO_RETRY_REQUESTED,
        UNDO_RESOLVED,
        REDRIVEN,
    }
)
"""People may name a run that never was; everything else of choreo's own follows from a start."""

TIMERS = frozenset({STEP_DEADLINE_PASSED, UNDO_DEADLINE_PASSED, FLOW_DEADLINE_PASSED})
"""Always timer facts; StepRetryDue and a wait's `fails` event are timer facts when they carry `due_ms`."""

UNREADABLE = "choreo.Unreadable"
"""Never written: the type a log adapter gives to a record whose headers cannot be read (`reason` says why)."""
