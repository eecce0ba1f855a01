"""The child flows of one step: which batch may start, when they are joined, and whether all are undone. Pure.

A value of counts and bit sets, so that ten thousand children take some kilobytes. The order in which ends are read does
not matter, and a repeated end changes nothing. A place is a child's index in the handler's result; a
batch is `size` places in a row. The fold of the facts stands in family.py.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from choreo.core.definition import ChildrenDefinition

OK: Final = "completed"
UNDONE: Final = "compensated"
STUCK: Final = "stuck"
TERMINATED: Final = "terminated"

JOINED: Final = "joined"
FAILED: Final = "failed"

KEPT_MAX = 100
"""Ends of which key and reason are kept for the result: at most some 20 kB of state. The counts count them all."""
REASON_CHARS = 200


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of one child as the join's event shows it."""

    place: int
    key: str
    outcome: str
    reason: str = ""


class Children(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The children of one step and trigger."""

    step: str
    trigger: str
    hops: int
    total: int
    size: int
    """Children of a batch; the last one may have fewer."""
    offsets: tuple[int, ...] = ()
    """Offset of each batch's ChildrenPlanned; -1: not read yet."""
    due: int = 0
    """Number of batches that may start."""
    started: bytes = b""
    """Batches whose ChildrenDue stands in the log: an order to them finds them started."""
    ended: bytes = b""
    """Places whose first end was read."""
    failed: bytes = b""
    """Places whose first end was no success."""
    undone: bytes = b""
    stuck: bytes = b""
    """Places that cannot be undone: stuck or terminated."""
    ends: tuple[End, ...] = ()
    decision: str = ""
    round: int = 0
    """Round of the request to undo them; 0: none."""
    requested: bytes = b""
    """Batches to which it was published."""
    answered: int = 0
    """Round that was answered with a failure, because a child is stuck."""
    pause_n: int = 0
    paused: bytes = b""
    """Batches to which the pause was published."""
    terminated: bytes = b""

    @property
    def complete(self) -> bool:
        """Return whether every batch is planned."""
        return len(self.offsets) == self.batches and -1 not in self.offsets

    @property
    def batches(self) -> int:
        """Return the number of batches."""
        return -(-self.total // self.size)

    @property
    def opened(self) -> int:
        """Return the number of children that were started."""
        return min(self.due * self.size, self.total)

    def places(self, batch: int) -> range:
        """Return the places of a batch."""
        return range(batch * self.size, min((batch + 1) * self.size, self.total))

    def planned(self, batch: int, offset: int) -> Children:
        """Return it with the offset of a batch; a batch that is known, or none of its own, changes nothing."""
        if not 0 <= batch < self.batches or (batch < len(self.offsets) and self.offsets[batch] >= 0):
            return self
        known = list(self.offsets) + [-1] * (batch + 1 - len(self.offsets))
        known[batch] = offset
        return replace(self, offsets=tuple(known))

    def child_ended(self, end: End) -> Children:
        """Return it after an end of a child: the first one counts for the join, each for the undoing."""
        place = end.place
        if not 0 <= place < self.total:
            return self
        changed = self
        if not has(self.ended, place):
            failed = with_bit(self.failed, place) if end.outcome != OK else self.failed
            ends = (*self.ends, end) if len(self.ends) < KEPT_MAX else self.ends
            changed = replace(self, ended=with_bit(self.ended, place), failed=failed, ends=ends)
        if end.outcome == UNDONE and not has(self.undone, place):
            return replace(changed, undone=with_bit(self.undone, place), stuck=without(self.stuck, place))
        if end.outcome in (STUCK, TERMINATED) and not has(self.undone, place):
            return replace(changed, stuck=with_bit(self.stuck, place))
        return changed

    def startable(self, rule: ChildrenDefinition) -> bool:
        """Return whether the next batch may start within the window."""
        batch = self.due
        if self.decision or batch >= len(self.offsets) or self.offsets[batch] < 0:
            return False
        still_open = self.opened - count(self.ended)
        return not rule.window or not still_open or still_open + len(self.places(batch)) <= rule.window

    def decided(self, rule: ChildrenDefinition) -> str:
        """Return the join's decision: JOINED, FAILED, or "" while ends are awaited."""
        if self.decision:
            return self.decision
        ended, failed = count(self.ended), count(self.failed)
        if rule.first:
            if ended - failed >= rule.first:
                return JOINED
            return FAILED if self.total - failed < rule.first else ""
        if failed > rule.tolerated:
            return FAILED
        return JOINED if ended == self.total and self.complete else ""

    @property
    def all_undone(self) -> bool:
        """Return whether every child that was started is undone."""
        return count(self.undone) >= self.opened


def has(bits: bytes, place: int) -> bool:
    """Return whether the place is in the set."""
    at = place >> 3
    return at < len(bits) and bool(bits[at] >> (place & 7) & 1)


def with_bit(bits: bytes, place: int) -> bytes:
    """Return the set with this place."""
    at = place >> 3
    grown = bytearray(bits) if at < len(bits) else bytearray(bits.ljust(at + 1, b"\0"))
    grown[at] |= 1 << (place & 7)
    return bytes(grown)


def without(bits: bytes, place: int) -> bytes:
    """Return the set without this place; the same set always has the same bytes."""
    if not has(bits, place):
        return bits
    less = bytearray(bits)
    less[place >> 3] &= ~(1 << (place & 7))
    return bytes(less).rstrip(b"\0")


def count(bits: bytes) -> int:
    """Return the size of the set."""
    return int.from_bytes(bits, "little").bit_count()
