"""The inbox: a service's memory of what its steps have begun and what came of it.

It is what makes a redelivered trigger harmless: an attempt is counted before it starts, an outcome is written once
before it is published, and a step on no cycle has one slot a run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from choreo.core.events import Envelope


class Begin(msgspec.Struct, frozen=True):
    """An attempt about to start, of `step` for a trigger. `slot`: the run's id for a step on no cycle, or "".

    `unmarked`: only if nothing was read about its run; else the mark is answered, and nothing is begun.
    """

    trigger: str
    step: str
    run: str
    slot: str = ""
    unmarked: bool = False


class Hold(msgspec.Struct, frozen=True):
    """In whose hands attempts are, and how long they stay there after the last word of it.

    An attempt that is begun with a hold is nobody else's to begin until its outcome is recorded or the hold has lapsed:
    a process that lives renews it, one that died does not.
    """

    holder: str
    """Unique among processes, over restarts too."""
    lease_ms: int
    """0 lets go."""


class RunMark(msgspec.Struct, frozen=True):
    """What the service has read about a run: the facts that stop or hold its forward steps."""

    turned: bool = False
    ended: bool = False
    """Completed, compensated or terminated."""
    paused: bool = False
    pause_n: int = 0
    """The highest number read of the pause series; lower ones are dropped."""
    stopped_at: int = -1
    """Of a turned or ended run the lowest offset at which that was read; -1 where it is not known."""


class Begun(msgspec.Struct, frozen=True):
    """The inbox's answer to a Begin."""

    count: int
    """How many attempts have begun, this one included; 0 when it must not start."""
    recorded: Sequence[Envelope] = ()
    """The outcome already recorded for (trigger, step): publish that again, do not run."""
    slot_holder: str = ""
    """Another trigger that holds the run's slot of this step: this one is ignored."""
    held_ms: int = 0
    """Another process has begun it and lives: how long its hold lasts, unless it is renewed. Look again then."""
    mark: RunMark | None = None
    """What was read about the run of an attempt that was to begin only if it is `unmarked`."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of (trigger, step): written once, then published.

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
    """When the trigger came into the log, by the log's stamp."""


class GateRow(msgspec.Struct, frozen=True):
    """The gates of one key, up to and including the record at `position`."""

    partition: int
    position: int
    ended_ms: int
    """When its last run ended, in epoch milliseconds; 0 while one is open."""
    state: bytes


class GateSave(msgspec.Struct, frozen=True):
    """Gates of a flow's keys as a service has folded them, and how far each partition is folded (next offset).

    `shape` names the declaration that they are folded by: gates of another shape are not these.
    """

    flow: str
    shape: str
    positions: Mapping[int, int]
    rows: Mapping[str, GateRow]


class Memory(Protocol):
    """What an inbox is kept in, where that may be lost while the log stays: a store of its own.

    Each memory has a name. A log says it beside the positions it commits, so that a memory which has forgotten is told
    from one that never knew.
    """

    @property
    def name(self) -> str:
        """What commits are to say: another name once the memory was lost. "" before the first `meet`."""
        ...

    async def meet(self, said: Collection[str]) -> None:
        """Compare it with the names that a log's last commits said, before what follows them is begun.

        Where one is another's, that one is lost: nothing is certain for as long as its entries would have lived.
        """
        ...


class Inbox(Protocol):
    """One service's memory: the service is given when the inbox is opened. Each method is one batched write or read."""

    async def begin(self, attempts: Sequence[Begin], hold: Hold | None = None) -> list[Begun]:
        """Take the slots and count the attempts, durably, before any of them starts; answers in the order given.

        With `hold` they are in its hands. What is in another's, and has no outcome, does not start.
        """
        ...

    async def renew(self, keys: Sequence[tuple[str, str]], hold: Hold) -> None:
        """Hold these (trigger, step) for `lease_ms` from now; those that are not in its hands are left alone."""
        ...

    async def recorded(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Sequence[Envelope]]:
        """The recorded outcomes of these (trigger, step)."""
        ...

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Write each outcome unless one stands; returns the events to publish, `certain` settled."""
        ...

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Remember what was read about runs (by run id)."""
        ...

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """What was read about these runs; a run never marked is absent."""
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
        """Drop entries of runs marked ended before this moment; returns how many."""
        ...
