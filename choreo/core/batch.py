"""A batch: one action on many runs, or the redrive of many dead letters; its plan and its progress, as values. Pure.

The facts of a portion are kept before they are published. After a crash the same facts are published again, with the
same ids: every reader drops the duplicates, so that each item is acted on once.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from choreo.core.events import Envelope

REDRIVE = "redrive"
ITEMS_MAX = 100_000
"""Items of one batch: 100 bytes each are 10 MB in a store."""
PORTION_MAX = 200
"""Facts that are kept and published together: at 1 KB each a note of 200 KB."""
PORTION_S = 0.5
"""Length of a portion at the batch's rate: two writes a second keep a stop prompt and the progress lively."""
RATE_MIN, RATE_MAX = 1.0, 10_000.0
"""Items a second."""
SHOWN_MAX = 1_000
"""Refused items of which the reason is kept; the others are counted."""


class State(StrEnum):
    """The state of a batch."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One run or dead letter."""

    id: str
    """The run's id, or the dead letter's."""
    key: str
    redriven: int = 0
    """How often a dead letter was redriven when the batch was planned: another number means that it was since."""


class Plan(msgspec.Struct, frozen=True):
    """The decision for a batch; it does not change."""

    id: str
    action: str
    """Kind of the operator's action, or `redrive`."""
    flow: str
    about: str
    """The chosen items, in words."""
    items: list[Item]
    by: str
    """The author of every fact, as its header has it."""
    rate: float
    """Items a second, at most."""
    created_ms: int
    reason: str = ""
    entry: str = ""
    """Of a retry or resolution: the step whose compensation failed."""


class Refused(msgspec.Struct, frozen=True):
    """An item that was left out, and the reason."""

    id: str
    key: str
    why: str


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """A fact that may not be in the log yet, and its item."""

    item: Item
    fact: Envelope


class Progress(msgspec.Struct, frozen=True):
    """The part of a batch that is done."""

    state: State = State.RUNNING
    at: int = 0
    """Items that are settled."""
    taken: int = 0
    """Items after these; their facts are in `pending`."""
    pending: list[Pending] = []
    done: int = 0
    """Items whose fact is in the log."""
    refused: int = 0
    reasons: list[Refused] = []
    runner: str = ""
    """The process that works on it."""
    beat_ms: int = 0
    """When that process wrote last."""

    @property
    def is_over(self) -> bool:
        """Return whether nothing is left to do."""
        return self.state is State.DONE


def portion(plan: Plan, progress: Progress) -> Sequence[Item]:
    """Return the next items: as many as the rate allows in the length of a portion."""
    size = max(1, min(PORTION_MAX, round(plan.rate * PORTION_S)))
    return plan.items[progress.at : progress.at + size]


def taken(progress: Progress, items: int, pending: Sequence[Pending], refused: Sequence[Refused]) -> Progress:
    """Return the progress with a portion that is about to be published."""
    shown = [*progress.reasons, *refused][:SHOWN_MAX]
    number = progress.refused + len(refused)
    return replace(progress, taken=items, pending=list(pending), refused=number, reasons=shown)


def settled(plan: Plan, progress: Progress) -> Progress:
    """Return the progress once the facts of its portion are in the log."""
    at = progress.at + progress.taken
    ends = at >= len(plan.items) and progress.state is State.RUNNING
    state = State.DONE if ends else progress.state
    return replace(progress, at=at, done=progress.done + len(progress.pending), taken=0, pending=[], state=state)


def pause_s(plan: Plan, items: int) -> float:
    """Return how long a portion of so many items lasts at the batch's rate."""
    return items / plan.rate
