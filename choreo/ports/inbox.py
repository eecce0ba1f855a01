"""The inbox: a service's memory of the attempts that its steps have begun and of their outcomes.

It makes a redelivered trigger harmless: an attempt is counted before it starts, an outcome is written once before it is
published, and a step on no cycle has one slot a run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from choreo.core.events import Envelope


class AttemptRequest(msgspec.Struct, frozen=True):
    """An attempt about to start, of `step` for a trigger. `slot`: the run's id for a step on no cycle, or "".

    `unmarked`: begin only if nothing was read about its run; else return the mark and begin nothing.
    """

    trigger: str
    step: str
    run: str
    slot: str = ""
    unmarked: bool = False


class AttemptLease(msgspec.Struct, frozen=True):
    """Lease on an attempt: the holder, and how long it lasts after the last renewal.

    An attempt with a lease may be begun by nobody else until its outcome is recorded or the lease has expired: a live
    process renews it, a dead one does not.
    """

    holder: str
    """Unique among processes, over restarts too."""
    lease_ms: int
    """0 releases the attempt."""


class RunMark(msgspec.Struct, frozen=True):
    """The facts about a run that the service has read: those that stop or hold its forward steps."""

    compensating: bool = False
    ended: bool = False
    """Completed, compensated or terminated."""
    paused: bool = False
    pause_n: int = 0
    """The highest number read of the pause series; lower ones are dropped."""
    stopped_at: int = -1
    """Lowest offset of a fact that started compensation or ended the run; -1 where it is not known."""


class AttemptGrant(msgspec.Struct, frozen=True):
    """The inbox's answer to an AttemptRequest."""

    count: int
    """How many attempts have begun, this one included; 0 when it must not start."""
    recorded: Sequence[Envelope] = ()
    """The outcome already recorded for (trigger, step): publish it again, do not run."""
    slot_holder: str = ""
    """Another trigger that holds the run's slot of this step: this trigger is ignored."""
    held_ms: int = 0
    """Remaining lease of another live process that has begun it, unless renewed. Ask again then."""
    mark: RunMark | None = None
    """The mark of the run, for an attempt that was to begin only if the run is `unmarked`."""


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of (trigger, step): written once, then published.

    `certain_if_begun`: the events get `certain=True` if just so many attempts had begun when this is written (1 for a
    declared failure of the only attempt, 0 for a skip or a dead letter before any), never with -1. Where the inbox has
    no row for (trigger, step) and `certain_if_begun` is 1, its memory is lost and nothing is certain.
    A later, different outcome of the same (trigger, step) is not published unless `success`.
    """

    trigger: str
    step: str
    run: str
    events: Sequence[Envelope]
    success: bool
    certain_if_begun: int = -1
    stamp_ms: int = 0
    """Time at which the trigger came into the log, by the log's stamp."""


class GateRow(msgspec.Struct, frozen=True):
    """The gates of one key, up to and including the record at `position`."""

    partition: int
    position: int
    ended_ms: int
    """When its last run ended, in epoch milliseconds; 0 while one is open."""
    state: bytes


class GateSave(msgspec.Struct, frozen=True):
    """Gates of a flow's keys as a service has folded them, and the next offset to fold of each partition.

    `shape` names the declaration that they are folded by: gates of another shape are not used.
    """

    flow: str
    shape: str
    positions: Mapping[int, int]
    rows: Mapping[str, GateRow]


class InboxIdentity(Protocol):
    """Identity of an inbox's storage, which may be lost while the log stays.

    Each memory has a name. The log's commits hold it in their metadata, so that an inbox that lost its memory is
    distinguished from a new one.
    """

    @property
    def name(self) -> str:
        """Return the name for commits: a new one after the memory was lost. "" before the first `compare`."""
        ...

    async def compare(self, noted: Collection[str]) -> None:
        """Compare the name with those in a log's last commits, before any later record is begun.

        A different name means that the inbox is lost: nothing is certain for as long as its entries would have lived.
        """
        ...


class Inbox(Protocol):
    """One service's memory; the inbox is opened for one service. Each method is one batched write or read."""

    async def begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None = None) -> list[AttemptGrant]:
        """Take the slots and count the attempts, durably, before any of them starts; return grants in the same order.

        With `lease` the attempts get it. One with another holder's lease and without an outcome does not start.
        """
        ...

    async def renew(self, keys: Sequence[tuple[str, str]], lease: AttemptLease) -> None:
        """Extend the lease on these (trigger, step) to `lease_ms` from now; those of other holders are left alone."""
        ...

    async def recorded(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Sequence[Envelope]]:
        """Return the recorded outcomes of these (trigger, step)."""
        ...

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Write each outcome unless one is recorded; return the events to publish, with `certain` decided."""
        ...

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Save the marks of runs (by run id)."""
        ...

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """Return the marks of these runs; a run never marked is absent."""
        ...

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the kept gates of these keys; a key without any is absent."""
        ...

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which a partition's gates are kept; 0 where nothing is."""
        ...

    async def keep_gates(self, save: GateSave) -> None:
        """Keep these gates; a row or position that is older than the one kept changes nothing.

        Raises LeaseLostError where positions were kept before and are lost: then they must be folded again.
        """
        ...

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs marked ended before this moment; return their number."""
        ...
