"""The stored form of a state: position, pending part, state.

The position in the partition comes first, 8 bytes big endian: of two stored states of a key the one with the higher
position is the newer, at any time of writing. The next 8 bytes are the part that a timer index needs, so that the
index of a million keys is built without decoding a state.
"""

from __future__ import annotations

import struct

from choreo.core.errors import StorageError
from choreo.ports.state import PendingKey, StateRow

_HEAD = struct.Struct(">QQ")
"""Position; then 64 bits: number of the form (8), next due time (55, in ms), unacknowledged decisions or not (1)."""
_FORM = 1
_DUE = (1 << 56) - 2


def pack(row: StateRow) -> bytes:
    """Return the stored form of a state."""
    return _HEAD.pack(row.position, _FORM << 56 | row.due_ms << 1 | row.unacknowledged) + row.state


def position_of(stored: bytes) -> int:
    """Return the offset of the last event that was folded into a stored state."""
    return int.from_bytes(stored[:8], "big")


def pending_of(key: str, stored: bytes) -> PendingKey:
    """Return the pending part of a stored state. Raises StorageError if it is of another form."""
    word = int.from_bytes(stored[8:16], "big")
    if word >> 56 != _FORM:
        raise StorageError(
            "states were written by another version of choreo",
            where=f"the tracker's state of {key!r}",
            remedy="Remove the tracker's folder and its changelog topic: states are rebuilt from the log.",
        )
    return PendingKey(key, (word & _DUE) >> 1, unacknowledged=bool(word & 1))


def row_of(topic: str, partition: int, key: str, stored: bytes) -> StateRow:
    """Return the row in a stored state. Raises StorageError if it is of another form."""
    pending = pending_of(key, stored)
    return StateRow(
        topic,
        partition,
        key,
        position_of(stored),
        stored[_HEAD.size :],
        pending.due_ms,
        unacknowledged=pending.unacknowledged,
    )
