"""What the tracker knows of a key: its runs, each with expected steps, open waits, ledger and outbox.

A state is a pure fold of the log, and a value: a run's lists are replaced, never changed in place, so that a copy of
the run is cheap. Encoded as MessagePack; the same state always gives the same bytes. All times are epoch milliseconds
of the log's own stamps; due times of a paused run count as if time had stood still since `paused_ms`. No state is part
of a cycle, so the garbage collector need not look (`gc=False`): it would at a million open instances.
"""

from __future__ import annotations

from typing import Final

import msgspec

from choreo.core.events import Envelope
from choreo.core.gates import Gates

RUNNING: Final = "running"
PAUSED: Final = "paused"
COMPENSATING: Final = "compensating"
COMPLETED: Final = "completed"
COMPENSATED: Final = "compensated"
STUCK: Final = "stuck"
TERMINATED: Final = "terminated"
TRUNCATED: Final = "truncated"

STATUSES: Final = (RUNNING, PAUSED, COMPENSATING, COMPLETED, COMPENSATED, STUCK, TERMINATED, TRUNCATED)

# States of a ledger entry.
OPEN: Final = "open"
REQUESTED: Final = "requested"
UNDONE: Final = "undone"
NOTHING: Final = "nothing"
FAILED: Final = "failed"
RESOLVED: Final = "resolved"

UNSETTLED: Final = frozenset({OPEN, REQUESTED, FAILED})

UNSETTLEABLE: Final = ""
"""In place of a trigger: a doubt that only the answer of an undo, a success or a person can settle."""


class Expected(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step whose trigger was seen and whose outcome was not."""

    step: str
    trigger: str
    since_ms: int
    due_ms: int
    offset: int
    """Where its trigger stands."""
    attempt: int = 0
    """The last attempt known to have failed."""
    retry_ms: int = 0
    """When to say StepRetryDue; 0: nothing to say."""
    answers: str = ""
    """Id of the record that StepRetryDue will answer."""
    held: bool = False
    hops: int = 0
    """Of a trigger from outside: those of what opened its wait, and one more."""
    held_n: int = 0
    """Number of the pause for which it was held last: a StepHeld about that one or an earlier one is a duplicate."""
    raw: str = ""
    """The id that a foreign producer gave the trigger, where `trigger` is derived from it."""


class OpenWait(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A wait for an event from outside that is open."""

    name: str
    until: str
    trigger: str
    since_ms: int
    due_ms: int


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a step left in the world, or may have left."""

    id: str
    step: str
    trigger: str
    opened: int
    """Offset of the fact that opened it: the order of undoing."""
    outcome: int = -1
    """Offset of the success; -1: in doubt."""
    state: str = OPEN
    round: int = 0
    given: int = -1
    """The outcome that the present round's request carried."""
    nothing_rounds: tuple[int, ...] = ()
    """Rounds that were answered with NothingToUndo, however late."""
    asked_n: int = 0
    """How many of them were known when the present round was asked for."""
    due_ms: int = 0
    """Deadline of the present request, from its stamp; 0 until it is read back."""
    attempt: int = 0
    """The last attempt of the present round known to have failed."""
    retry_ms: int = 0
    answers: str = ""
    held: bool = False
    held_n: int = 0
    cause: str = ""
    doubted: tuple[str, ...] = ()
    """Triggers whose attempts may have left the effect. With UNSETTLEABLE no certain failure settles all of them."""
    cleared: tuple[str, ...] = ()
    """Triggers of which a certain failure said that they have left nothing."""
    raw: str = ""
    """As in Expected."""

    @property
    def in_doubt(self) -> bool:
        """Whether it is unknown if there is an effect."""
        return self.outcome < 0

    @property
    def nothings(self) -> int:
        """How many NothingToUndo were read for it."""
        return len(self.nothing_rounds)


class Run(msgspec.Struct, array_like=True, gc=False):
    """One run of the flow for the key."""

    id: str
    started: int
    """Offset of its start event."""
    started_ms: int
    version: int = 1
    status: str = RUNNING
    cause: str = ""
    due_ms: int = 0
    """The flow's deadline; 0: none."""
    expected: list[Expected] = []
    waits: list[OpenWait] = []
    gates: Gates = Gates()
    """Which events from outside are triggers; hosts fold the same."""
    ledger: list[Entry] = []
    outbox: list[Envelope] = []
    """Decisions not yet read back from the log."""
    recent: bytes = b""
    """Memory of events that name no cause (recent.py): a duplicate of one is dropped."""
    completes_seen: bool = False
    completing: bool = False
    """Decided to complete: from here on nothing turns it."""
    turned: bool = False
    announced: bool = False
    """Its FlowTurned was read back: a trigger after it makes nothing expected."""
    duplicate: bool = False
    """A second start for an open key."""
    ending: bool = False
    """FlowCompensated is said and not read back."""
    fails_said: bool = False
    ends: int = 0
    """Number of the next FlowCompensated."""
    stucks: int = 0
    paused_ms: int = 0
    """Since when it is paused; 0: it is not."""
    pause_n: int = 0
    ended_ms: int = 0
    """When it ended; 0: it is open."""
    closed: bool = False
    """An end fact of it stands in the log: events without a run are not its own, even if it was opened again."""
    changed: int = -1
    """Offset of the last event of this run."""
    changed_ms: int = 0
    taken: list[str] = []
    """Steps on no cycle whose one slot is known to be taken: of a trigger read again nothing more can come."""
    refused: list[tuple[str, str]] = []
    """(step, trigger) that have failed: the trigger may be read again before the turn is announced."""

    @property
    def ended(self) -> bool:
        """Whether its end fact was read."""
        return self.ended_ms != 0

    @property
    def shown(self) -> str:
        """The status people see."""
        return PAUSED if self.paused_ms and not self.ended else self.status

    def entry(self, entry_id: str) -> Entry | None:
        """The ledger entry with this id."""
        for entry in self.ledger:
            if entry.id == entry_id:
                return entry
        return None

    def put(self, entry: Entry) -> None:
        """Take the entry in the place of the one with its id, or as the newest."""
        known = self.entry(entry.id)
        if known is None:
            self.ledger = [*self.ledger, entry]
        else:
            self.ledger = [entry if other is known else other for other in self.ledger]

    def expects(self, step: str, trigger: str) -> Expected | None:
        """The open expectation of this step for this trigger."""
        for expected in self.expected:
            if expected.trigger == trigger and expected.step == step:
                return expected
        return None

    def settle(self, step: Expected) -> None:
        """The step is no longer expected."""
        self.expected = [other for other in self.expected if other is not step]

    def close(self, wait: OpenWait) -> None:
        """The wait is over."""
        self.waits = [other for other in self.waits if other is not wait]

    @property
    def unsettled(self) -> bool:
        """Whether anything stands between a turned run and its end."""
        return bool(self.expected) or any(entry.state in UNSETTLED for entry in self.ledger)


class KeyState(msgspec.Struct, array_like=True, gc=False):
    """Everything known of one key, up to and including `position` in its partition."""

    position: int = -1
    now_ms: int = 0
    """The highest stamp read: the fold's own time."""
    runs: list[Run] = []
    orphans: list[int] = []
    """Offsets of events that belong to no run; the newest hundred."""
    forgot: bool = False
    """A run has lingered and is forgotten: an unknown run is then no sign of a truncated log."""

    def run(self, run_id: str) -> Run | None:
        """The run with this id."""
        for run in self.runs:
            if run.id == run_id:
                return run
        return None

    @property
    def oldest_open(self) -> Run | None:
        """Where an event without a run belongs: the oldest run of which no end fact was read, as hosts see it too."""
        for run in self.runs:
            if not run.closed:
                return run
        return None

    @property
    def busy(self) -> bool:
        """Whether a run has not ended."""
        return any(not run.ended for run in self.runs)

    @property
    def unsaid(self) -> bool:
        """Whether a decision was not read back from the log."""
        return any(run.outbox for run in self.runs)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeyState)


def encode(state: KeyState) -> bytes:
    """The state's bytes: equal states give equal bytes."""
    return _encoder.encode(state)


def decode(data: bytes) -> KeyState:
    """The state in these bytes; raises msgspec.DecodeError."""
    return _decoder.decode(data)
