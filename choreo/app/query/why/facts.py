"""The facts about a run that `choreo why` decides by: plain values, read from the ports. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from choreo.app.query.group_memory import GroupChange
from choreo.app.query.history import HistoryRow
from choreo.app.tracking.views import ChildrenCount, Detail
from choreo.core.definition import RetryRule
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.log import GroupMember
from choreo.ports.read_model import InstanceView


class GroupFacts(msgspec.Struct, frozen=True):
    """A consumer group in the partition of the key."""

    name: str
    members: Sequence[GroupMember]
    partition: int
    committed: int
    end: int
    unread_ms: int
    """Stamp of the first record behind the committed offset; 0: there is none."""
    changes: Sequence[GroupChange] = ()
    """Changes of its members that this process has seen in the last minutes."""
    moved_ms: int = 0
    """When this process last saw its offset move; 0: it did not."""
    contested: Mapping[str, int] = {}
    """Instances that were taken over again and again, each with how often."""

    @property
    def owner(self) -> GroupMember | None:
        """Return the member that owns the partition; None if none does."""
        return next((member for member in self.members if self.partition in member.partitions), None)

    @property
    def lag(self) -> int:
        """Return how far the group is behind; 0 where only marks of transactions are left, which nobody reads."""
        return max(0, self.end - self.committed) if self.unread_ms else 0


class StepFacts(msgspec.Struct, frozen=True):
    """A step, or the undo of one, that the run expects an outcome of. Times are epoch milliseconds."""

    step: str
    service: str
    undo: bool
    offset: int
    """Offset of the record that starts its present attempts; -1: it was not found."""
    since_ms: int
    """Stamp of this record."""
    due_ms: int
    attempt: int
    retry_ms: int
    held: bool
    work_ms: int
    """The longest time from a record to a fact about it: the attempts and waits that a host keeps in its memory."""
    failure: str
    """The reason of the last failed attempt; "" if none is known."""
    group: GroupFacts
    children: ChildrenCount | None
    child_flow: str
    before: int
    """Triggers of the service in the partition that are not finished and stand before this one."""
    hot_key: str
    """The key that most of them have."""
    hot_share: int
    """Its share of them, in percent."""
    progress_ms: int
    """Stamp of the newest fact of the service among the last records of the partition; 0: there is none."""
    rate: float
    """Facts of the service a second among these records; 0: not known."""


class Orphan(msgspec.Struct, frozen=True):
    """An event from outside that the run may be waiting for, under another key of which there is no run."""

    type: str
    key: str
    position: str
    stamp_ms: int
    source: str
    json: str
    """Its fields as JSON, with the run's key in place of its own; "" where they cannot be read."""


class RunFacts(msgspec.Struct, frozen=True):
    """All facts about a run that the decision list tests."""

    row: InstanceView
    detail: Detail
    now_ms: int
    end: int
    """Offset up to which the partition can be read."""
    shown: int
    """Offset up to which the views are true."""
    reached: bool
    """Whether the views have reached the end that the log had when the question was asked."""
    tracker: GroupFacts
    paused: HistoryRow | None
    """The fact that paused it."""
    dead_letters: Sequence[DeadLetter]
    """Those that the run needs and that were not redriven, newest first."""
    steps: Sequence[StepFacts]
    unserved: str
    """Why the present code cannot serve the run's version; "" if it can, or that is not known."""
    orphan: Orphan | None
    partitions: int


def work_ms(timeout_ms: int, retry: RetryRule) -> int:
    """Return the longest time that a host keeps a step without a fact in the log: attempts, and waits between them."""
    total = timeout_ms
    for attempt in range(1, min(retry.attempts_max, ATTEMPTS_COUNTED)):
        delay_ms = retry.delay_ms(attempt)
        if delay_ms > retry.inline_up_to_ms:
            break
        total += delay_ms + timeout_ms
    return total


ATTEMPTS_COUNTED = 1_000
"""A bound of the sum above: more attempts than that in a host's memory take hours in any case."""
