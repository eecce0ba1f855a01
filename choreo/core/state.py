"""The tracker's state of a key: its runs, each with expected steps, open waits, ledger and outbox.

A state is a pure fold of the log, and a value: a run's lists are replaced, never changed in place, so that a copy of
the run is cheap. Encoded as MessagePack; the same state always gives the same bytes. All times are epoch milliseconds
of the log's own timestamps; due times of a paused run count as if time had stood still since `paused_ms`. No state is
part of a cycle, so the garbage collector need not look (`gc=False`): it would at a million open instances.
"""

from __future__ import annotations

from typing import Final

import msgspec

from choreo.core import recent
from choreo.core.baggage import Carried
from choreo.core.children import Children
from choreo.core.events import Envelope
from choreo.core.gates import Gates
from choreo.core.retired import Page

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
"""Stands for an unknown trigger: only the answer of a compensation, a success or a person can settle such a doubt."""


class PendingStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step with a trigger and without an outcome yet."""

    step: str
    trigger: str
    since_ms: int
    due_ms: int
    offset: int
    """Offset of its trigger."""
    attempt: int = 0
    """The last attempt known to have failed."""
    retry_ms: int = 0
    """Time at which to publish StepRetryDue; 0: none."""
    answers: str = ""
    """Id of the record that StepRetryDue will answer."""
    held: bool = False
    hops: int = 0
    """Hops of the trigger; for a trigger from outside: those of the event that opened its wait, and one more."""
    held_n: int = 0
    """Number of the pause for which it was held last: a StepHeld for that one or an earlier one is a duplicate."""
    raw: str = ""
    """The id that a foreign producer gave the trigger, if `trigger` is derived from it."""
    carried: Carried | None = None
    """Headers that its attempts get: of the trigger, and of the events that a gate has joined with it."""


class OpenWait(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A wait for an event from outside that is open."""

    name: str
    until: str
    trigger: str
    """Id of the event that set its time: the opener, or the last that moved it."""
    since_ms: int
    due_ms: int
    hops: int = 0
    """Hops of the event that opened it."""
    fixed: bool = False
    """Whether `due_ms` is a moment in a field of an event, which no pause moves."""
    reminder_ms: int = 0
    """When the next reminder is due; 0: none is."""
    reminded: int = 0
    """Reminders that were published."""
    escalation_ms: int = 0
    """When it is escalated; 0: it was, or never is."""
    closing: bool = False
    """Whether its choreo.WaitClosed is decided and not in the log yet."""


class LedgerEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An effect that a step left in the world, or may have left."""

    id: str
    step: str
    trigger: str
    opened: int
    """Offset of the fact that opened it: the order of undoing."""
    outcome: int = -1
    """Offset of the success; -1: in doubt."""
    state: str = OPEN
    round: int = 0
    asked_outcome: int = -1
    """Outcome in the request of the present round."""
    nothing_rounds: tuple[int, ...] = ()
    """Rounds that were answered with NothingToCompensate, even late."""
    asked_n: int = 0
    """Number of those rounds when the present round was requested."""
    due_ms: int = 0
    """Deadline of the present request, from its timestamp; 0 until the request is in the log."""
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
    """Triggers that have left nothing, by a certain failure."""
    raw: str = ""
    """As in PendingStep."""
    carried: Carried | None = None
    """Headers of the present request, which each of its attempts gets."""

    @property
    def in_doubt(self) -> bool:
        """Return whether it is unknown if there is an effect."""
        return self.outcome < 0

    @property
    def nothings(self) -> int:
        """Return the number of NothingToCompensate that were read for it."""
        return len(self.nothing_rounds)


class Parentage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a child's state that concerns its parent."""

    place: str
    """Place in the parent, as in the header of the start event."""
    told: str = ""
    """The status that was last reported to the parent; "" while the run is open."""
    tellings: int = 0
    pause_n: int = 0
    """Number of the newest pause or resume of the parent."""
    compensating: bool = False
    """Whether the parent undoes it: also once it has completed."""


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
    expected: list[PendingStep] = []
    waits: list[OpenWait] = []
    gates: Gates = Gates()
    """The events from outside that are triggers; hosts fold the same."""
    ledger: list[LedgerEntry] = []
    outbox: list[Envelope] = []
    """Decisions that are not in the log yet."""
    recent: bytes = b""
    """Tokens of events that name no cause (recent.py): a duplicate of one is dropped."""
    completes_seen: bool = False
    completing: bool = False
    """Decided to complete: from here on no compensation starts."""
    compensating: bool = False
    announced: bool = False
    """Its CompensationStarted is in the log: a later trigger makes nothing expected."""
    duplicate: bool = False
    """Whether it is a second start of a key with an open run."""
    ending: bool = False
    """FlowCompensated is decided and not in the log yet."""
    fails_emitted: bool = False
    ends: int = 0
    """Number of the next FlowCompensated."""
    stucks: int = 0
    paused_ms: int = 0
    """Time since which it is paused; 0: it is not."""
    pause_n: int = 0
    ended_ms: int = 0
    """Time of its end; 0: it is open."""
    closed: bool = False
    """An end fact of it stands in the log: events without a run are not its own, even if it was opened again."""
    changed: int = -1
    """Offset of the last event of this run."""
    changed_ms: int = 0
    taken: list[str] = []
    """Steps on no cycle whose one slot is taken: a trigger that is read again makes nothing expected."""
    refused: list[tuple[str, str]] = []
    """(step, trigger) that have failed: the trigger may be read again before the compensation is announced."""
    children: tuple[Children, ...] = ()
    """Steps whose child flows are planned."""
    parentage: Parentage | None = None
    """Of a run that is a child."""
    carried: Carried | None = None
    """Headers of all its events together: those of the tracker's events."""

    completed_by: str = ""
    """The event that completes it, once it was read."""
    attributed: bytes = b""
    """Tokens of events that have set search attributes (recent.py): a duplicate sets none again."""
    build: str = ""
    """The build in its start event; its steps run on hosts of that build alone."""

    def note_attributes(self, event: Envelope) -> None:
        """Note that this event sets search attributes, unless it did so before."""
        token = recent.token(event.type, event.id)
        if not recent.knows(self.attributed, token):
            self.attributed = recent.with_new(self.attributed, token)

    @property
    def has_end(self) -> bool:
        """Return whether an end fact of it stands in the log."""
        return self.closed

    def has_read(self, event: Envelope) -> bool:
        """Return whether it remembers an event that names no run."""
        return bool(self.recent) and recent.knows(self.recent, recent.token(event.type, event.id))

    @property
    def ended(self) -> bool:
        """Return whether its end fact was read."""
        return self.ended_ms != 0

    @property
    def shown(self) -> str:
        """Return the status for people."""
        return PAUSED if self.paused_ms and not self.ended else self.status

    def entry(self, entry_id: str) -> LedgerEntry | None:
        """Return the ledger entry with this id."""
        for entry in self.ledger:
            if entry.id == entry_id:
                return entry
        return None

    def put(self, entry: LedgerEntry) -> None:
        """Replace the entry with this one's id, or add it as the newest."""
        known = self.entry(entry.id)
        if known is None:
            self.ledger = [*self.ledger, entry]
        else:
            self.ledger = [entry if other is known else other for other in self.ledger]

    def expects(self, step: str, trigger: str) -> PendingStep | None:
        """Return the pending step of this trigger."""
        for expected in self.expected:
            if expected.trigger == trigger and expected.step == step:
                return expected
        return None

    def settle(self, step: PendingStep) -> None:
        """Remove a step that is no longer expected."""
        known = self.expected
        self.expected = [] if len(known) == 1 and known[0] is step else [other for other in known if other is not step]

    def close(self, wait: OpenWait) -> None:
        """Remove a wait that is over."""
        self.waits = [other for other in self.waits if other is not wait]

    @property
    def over(self) -> bool:
        """Return whether no later event can change it: all that was undone was certain, and nothing is in doubt."""
        if not (self.ended_ms and self.closed) or self.outbox or self.parentage or self.children:
            return False
        return self.status != COMPENSATED or all(e.state == UNDONE and not e.in_doubt for e in self.ledger)

    @property
    def unsettled(self) -> bool:
        """Return whether something stands between a compensating run and its end."""
        return bool(self.expected) or any(entry.state in UNSETTLED for entry in self.ledger)


class KeyState(msgspec.Struct, array_like=True, gc=False):
    """The state of one key, up to and including `position` in its partition."""

    position: int = -1
    now_ms: int = 0
    """The highest timestamp read: the fold's own time."""
    runs: list[Run] = []
    orphans: list[int] = []
    """Offsets of events that belong to no run; the newest hundred."""
    forgot: bool = False
    """Whether a run was forgotten after its linger time: an unknown run is then no sign of a truncated log."""
    retired: list[Page] = []
    """Memory of retired runs, besides the newest (retired.py)."""

    def attributed_since(self, before: KeyState) -> str:
        """Return the run whose search attributes the event sets that was folded into `before`; "" for none."""
        for run in self.runs:
            if run.changed == self.position > before.position:
                known = before.run(run.id)
                new = run.started == self.position if known is None else run.attributed != known.attributed
                return run.id if new else ""
        return ""

    def run(self, run_id: str) -> Run | None:
        """Return the run with this id."""
        for run in self.runs:
            if run.id == run_id:
                return run
        return None

    @property
    def busy(self) -> bool:
        """Return whether a run has not ended."""
        return any(not run.ended for run in self.runs)

    @property
    def unacknowledged(self) -> bool:
        """Return whether a decision is not in the log yet."""
        return any(run.outbox for run in self.runs)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeyState)


def encode(state: KeyState) -> bytes:
    """Return the state's bytes: equal states give equal bytes."""
    return _encoder.encode(state)


def decode(data: bytes) -> KeyState:
    """Return the state in these bytes; raises msgspec.DecodeError."""
    return _decoder.decode(data)
