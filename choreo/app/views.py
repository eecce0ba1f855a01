"""How a run is shown: the projection of the tracker's state into the read model's rows. Pure.

It is made for every key of every batch, so it builds a few small structs and one JSON text, nothing else. What the
fields mean in words, and everything that can be worked out when somebody looks, stands in query.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import astuple

from choreo.core.definition import FlowTable
from choreo.core.errors import StorageError
from choreo.core.gates import Gates
from choreo.core.state import REQUESTED, Entry, Expected, OpenWait, Run
from choreo.ports.read_model import InstanceView


class ExpectedStep(msgspec.Struct, frozen=True):
    """A step whose trigger was seen and whose outcome was not. Times are epoch milliseconds."""

    step: str
    trigger: str
    since_ms: int
    due_ms: int
    attempt: int
    """The last attempt known to have failed."""
    retry_ms: int
    """When the next attempt is woken; 0: no wait is under way."""
    held: bool
    """Whether it waits for the run to be resumed."""


class AwaitedEvent(msgspec.Struct, frozen=True):
    """An event from outside that the run waits for."""

    name: str
    until: str
    since_ms: int
    due_ms: int


class Effect(msgspec.Struct, frozen=True):
    """A ledger entry: what a step left in the world, or may have left."""

    entry: str
    step: str
    state: str
    in_doubt: bool
    round: int
    """How often its undo was asked for."""
    cause: str
    due_ms: int
    """Deadline of the present undo request; 0: none is under way."""
    retry_ms: int
    opened: int
    """Offset of the fact that opened it: undos go from the highest to the lowest."""


class Detail(msgspec.Struct, frozen=True):
    """A run's state as people see it. Times are epoch milliseconds; 0 means that there is none."""

    status: str
    cause: str
    version: int
    due_ms: int
    """The flow's deadline."""
    paused_ms: int
    pause_n: int
    ended_ms: int
    turned: bool
    completing: bool
    duplicate: bool
    expected: list[ExpectedStep]
    waits: list[AwaitedEvent]
    ledger: list[Effect]
    """Oldest entry first."""
    over: list[str]
    """Names of the waits that were opened and will not be again."""

    @property
    def timers(self) -> list[tuple[int, str]]:
        """What is due when, as `core.due` has it: none run while the run is paused, completing or ended."""
        if self.ended_ms or self.paused_ms or self.completing:
            return []
        moments = [] if self.turned else [(self.due_ms, "the flow's deadline")]
        for step in self.expected:
            moments += [(step.due_ms, f"the deadline of {step.step}"), (step.retry_ms, f"another try of {step.step}")]
        moments += [(wait.due_ms, f"the timeout of the wait for {wait.until}") for wait in self.waits]
        for effect in self.ledger:
            if effect.state == REQUESTED and effect.due_ms:
                undo = f"the undo of {effect.step}"
                moments += [(effect.due_ms, f"the deadline of {undo}"), (effect.retry_ms, f"another try of {undo}")]
        return sorted((due_ms, about) for due_ms, about in moments if due_ms)

    @property
    def next_due_ms(self) -> int:
        """The next timer, whatever it is about; 0 if there is none."""
        return min(self.timers, default=(0, ""))[0]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A detail as a row keeps it: the run's own parts, encoded where they stand; named when somebody looks."""

    status: str
    cause: str
    version: int
    due_ms: int
    paused_ms: int
    pause_n: int
    ended_ms: int
    turned: bool
    completing: bool
    duplicate: bool
    expected: list[Expected]
    waits: list[OpenWait]
    ledger: list[Entry]
    over: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode
_NOTHING: Mapping[str, str] = {}


def view(
    table: FlowTable, partition: int, key: str, run: Run, attributes: Mapping[str, str] | None = None
) -> InstanceView:
    """The run of this key as a row of the read model, true up to the last event that changed the run.

    `attributes`: what `attributes_of` made of the start event's fields; they never change. None: the caller does
    not know them, and the row has none.
    """
    status = run.shown
    kept = _Kept(
        status,
        run.cause,
        run.version,
        run.due_ms,
        run.paused_ms,
        run.pause_n,
        run.ended_ms,
        run.turned,
        run.completing,
        run.duplicate,
        run.expected,
        run.waits,
        run.ledger,
        _over(run.gates) if run.gates.once else [],
    )
    return InstanceView(
        table.flow.name,
        key,
        run.id,
        status,
        run.cause,
        run.started_ms,
        run.changed_ms,
        partition,
        run.changed,
        _NOTHING if attributes is None else attributes,
        _encode(kept),
    )


def _over(gates: Gates) -> list[str]:
    """Return the names of the waits on no cycle that were opened and are no longer."""
    still = {opening.wait for opening in gates.openings}
    return [name for name in gates.once if name not in still]


def detail_of(row: InstanceView) -> Detail:
    """The detail in a row; raises StorageError on one that a program of another version wrote."""
    try:
        kept = _decode(row.detail)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"the detail of this row cannot be read: {error}",
            where=f"read model, flow {row.flow}, key {row.key!r}, run {row.run}",
            remedy="Rebuild it from the log with `choreo projections rebuild`.",
        ) from error

    expected = [
        ExpectedStep(e.step, e.trigger, e.since_ms, e.due_ms, e.attempt, e.retry_ms, e.held) for e in kept.expected
    ]
    waits = [AwaitedEvent(w.name, w.until, w.since_ms, w.due_ms) for w in kept.waits]
    ledger = [
        Effect(e.id, e.step, e.state, e.outcome < 0, e.round, e.cause, e.due_ms, e.retry_ms, e.opened)
        for e in kept.ledger
    ]
    return Detail(*astuple(kept)[:-4], expected, waits, ledger, kept.over)  # type: ignore[call-arg]  # the same fields before


def attributes_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The scalar fields of a start event as text, for filters; what has parts of its own is left out."""
    return {name: _text(value) for name, value in fields.items() if isinstance(value, str | int | float | Decimal)}


def _text(value: str | float | Decimal) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
