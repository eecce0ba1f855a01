"""The causes for which a run stands still: one table of their sentences, remedies and next commands.

CLI and REST print these words; a runbook has a heading for each cause. Texts are templates of the values of a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Cause(StrEnum):
    """The one cause of an answer, in the order in which they are tested."""

    TRACKER_AWAY = "tracker-away"
    TRACKER_STALLED = "tracker-stalled"
    READ_MODEL_BEHIND = "read-model-behind"
    ENDED = "ended"
    TRUNCATED = "truncated"
    PAUSED = "paused"
    UNDO_IN_DOUBT = "undo-in-doubt"
    UNDO_FAILED = "undo-failed"
    WRONG_PARTITION = "wrong-partition"
    DEAD_LETTER = "dead-letter"
    VERSION_UNSERVED = "version-unserved"
    CONTESTED = "contested"
    REBALANCE_LOOP = "rebalance-loop"
    NO_MEMBER = "no-member"
    NOT_ASSIGNED = "not-assigned"
    OFFSET_PAST = "offset-past"
    NO_PROGRESS = "no-progress"
    HOT_KEY = "hot-key"
    LAG = "lag"
    TIMER_LATE = "timer-late"
    RUNNING = "running"
    BACKOFF = "backoff"
    CHILDREN = "children"
    ORPHAN = "orphan"
    WAITING = "waiting"
    IDLE = "idle"


class Words(NamedTuple):
    """The words of a cause."""

    sentence: str
    remedy: str
    command: str
    """The next command; "" where there is nothing to do."""
    healthy: bool = False
    """Whether nothing is wrong."""


WORDS: Mapping[Cause, Words] = {
    Cause.TRACKER_AWAY: Words(
        "no tracker is running: group {group} has no member, and {lag} of partition {partition} are unread",
        "Start a tracker. Steps go on without it; timers, compensation and this view do not.",
        "choreo run tracker",
    ),
    Cause.TRACKER_STALLED: Words(
        "the tracker {member} owns partition {partition} and has read nothing since {since}",
        "Restart this process; another tracker takes its partitions over.",
        "choreo run tracker",
    ),
    Cause.READ_MODEL_BEHIND: Words(
        "the read model is true up to offset {shown} of partition {partition}, and the log ends at {end}",
        "Ask again; if it stays behind, start the role that fills the read model.",
        "choreo run {fills}",
    ),
    Cause.ENDED: Words("it has ended: {status}{reason}", "There is nothing to do.", "", healthy=True),
    Cause.TRUNCATED: Words(
        "the log no longer has the run's start, so that nothing is decided for it",
        "Compare its effects by hand, then end it.",
        "choreo terminate {key} --flow {flow} --reason 'its start is gone'",
    ),
    Cause.PAUSED: Words(
        "an operator has paused it at {since}{reason}",
        "Let it go on.",
        "choreo resume {key} --flow {flow}",
    ),
    Cause.UNDO_FAILED: Words(
        "the undo of {step} has failed in round {round}: {reason}",
        "Remove the reason, then request the undo again.",
        "choreo undo retry {key} {step} --flow {flow}",
    ),
    Cause.UNDO_IN_DOUBT: Words(
        "the effect of {step} is in doubt, and its compensation cannot find out whether it is there",
        "Look where the effect would be, undo it by hand if it is there, and record that.",
        "choreo undo resolve {key} {step} --flow {flow} --reason 'looked it up'",
    ),
    Cause.DEAD_LETTER: Words(
        "{type} at {position} was set aside as a dead letter: {reason}",
        "Remove the reason, then redrive it.",
        "choreo dlq redrive {letter}",
    ),
    Cause.WRONG_PARTITION: Words(
        "{type} at {position} lies in another partition than its key: {reason}",
        "Set partitioner=murmur2_random at its producer, {source}, and publish it again.",
        "choreo dlq show {letter}",
    ),
    Cause.VERSION_UNSERVED: Words(
        "the run is of version {version}, and the present code does not serve it: {reason}",
        "Run the services of version {version} beside the present ones until no run of it is open.",
        "choreo deploy check {flow}",
    ),
    Cause.CONTESTED: Words(
        "the instance {name} of service {service} was taken over {times} times in five minutes: processes that share "
        "it put each other out of the group",
        "Stop one of them, or give each process a CHOREO_KAFKA_GROUP_INSTANCE_ID of its own. If only one has it, look "
        "in its log for the reason of its restarts.",
        "choreo groups {flow} --watch 10",
    ),
    Cause.REBALANCE_LOOP: Words(
        "the members of service {service} have changed {changes} times since {since}, and none has finished {step}",
        "Look in their logs for the reason of their ends: memory, a probe, a crash of this handler. Let others go on.",
        "choreo pause {key} --flow {flow} --reason 'members come and go'",
    ),
    Cause.NO_MEMBER: Words(
        "no process of service {service} is running: {step} has waited since {since}",
        "Start the service.",
        "choreo run {service}",
    ),
    Cause.NOT_ASSIGNED: Words(
        "service {service} has {members}, and none owns partition {partition}",
        "A rebalance takes seconds. If it does not end, look for members that come and go.",
        "choreo why {key} --flow {flow} --watch 30",
    ),
    Cause.OFFSET_PAST: Words(
        "the offset of service {service} stands at {committed}, past the trigger of {step} at {offset}, and no outcome "
        "of it is in the log",
        "The offset was moved, or lost with its group. Stop the service, set the offset back to {offset}, start it: "
        "handlers that have an outcome do not run again.",
        "kafka-consumer-groups.sh --bootstrap-server $CHOREO_KAFKA --group {service} --topic {flow}:{partition} "
        "--reset-offsets --to-offset {offset} --execute",
    ),
    Cause.NO_PROGRESS: Words(
        "{member} owns partition {partition} and has not finished {step} since {since}, longer than all its attempts "
        "may take",
        "Restart this process; another one takes its partitions over.",
        "choreo run {service}",
    ),
    Cause.HOT_KEY: Words(
        "{before} of service {service} stand before {step}, {share} % of them of key {hot_key}",
        "More members do not help: one key is one partition. Split the key, or make its step faster.",
        "choreo show {hot_key} --flow {flow}",
    ),
    Cause.LAG: Words(
        "{before} of service {service} stand before {step} in partition {partition}{eta}",
        "Start more processes of the service, or make its slowest dependency faster.",
        "choreo run {service}",
    ),
    Cause.TIMER_LATE: Words(
        "{about} was due at {due}, and no fact in the log says so",
        "The tracker publishes due times. Restart the process that owns partition {partition}: {member}.",
        "choreo run tracker",
    ),
    Cause.RUNNING: Words("{member} works on {step} since {since}, until {until}", "Wait for it.", "", healthy=True),
    Cause.BACKOFF: Words(
        "attempt {attempt} of {step} failed: {reason}; the next begins at {until}",
        "Wait for it, or remove the reason before.",
        "",
        healthy=True,
    ),
    Cause.CHILDREN: Words(
        "{step} waits for its children: {ended} of {total} have ended, {failed} have failed",
        "Look at those that are open.",
        "choreo list {child_flow} --status running",
        healthy=True,
    ),
    Cause.ORPHAN: Words(
        "it waits for {type}, and one came under the key {other_key} at {position}, of which no run is known",
        "Publish it under the right key, and correct its producer, {source}.",
        "choreo publish {flow} {type} --json {json}",
    ),
    Cause.WAITING: Words(
        "nothing is wrong: it waits for {type} from outside, {until}", "Wait for it.", "", healthy=True
    ),
    Cause.IDLE: Words("nothing is wrong: {reason}", "Wait for it.", "", healthy=True),
}
"""The words of every cause."""
