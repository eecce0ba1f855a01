"""Decide whether stored states can be used: of this log, of a whole changelog, with no record missed.

The tracker notes beside each committed offset the topics on which its states depend. Where these have changed, the
partition is folded anew from the log's first record. Pure: it compares answers of the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.adapters.kafka.cluster.log_identity import Origin, noted, read_note, written
from choreo.adapters.kafka.cluster.requests import Commit

Span = tuple[int, int]
"""The first offset that a partition has, and the one that its next record will get."""


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """A range of records that was deleted before it was read: the first offset, and the one behind the last."""

    first: int
    end: int


class Trust(msgspec.Struct, frozen=True, array_like=True):
    """The topics on which the states of one partition depend."""

    changelog: str
    """The changelog's id."""
    begin: int
    """Its first offset: a compacted topic keeps it until an operator deletes records."""
    missing: Missing | None = None
    """The last range of the log that was never read."""


class TakeOver(msgspec.Struct, frozen=True):
    """How a partition is taken over."""

    position: int
    """The next offset to read."""
    trust: Trust
    anew: str = ""
    """Why it is folded anew; "": it is not."""
    lost: Missing | None = None
    """A range that was found missing just now."""


def note_of(origin: Origin, trust: Trust) -> str:
    """Return the note to commit beside an offset."""
    return written(noted(origin, msgspec.json.encode(trust).decode()))


def trust_of(note: str) -> Trust | None:
    """Return the topics in a note; None if the note is not a tracker's."""
    origin, more = read_note(note)
    try:
        return None if origin is None else _decode(more)
    except msgspec.MsgspecError:
        return None


def reviewed(more: str) -> str:
    """Return a tracker's note without the missing range: an operator has looked at it."""
    try:
        trust = _decode(more)
    except msgspec.MsgspecError:
        return more
    return msgspec.json.encode(msgspec.structs.replace(trust, missing=None)).decode()


def take_over(
    log: Span, committed: Commit | None, changelog_id: str, changelog: Span, restored: Commit | None
) -> TakeOver:
    """Return how to take over a partition, from the offsets that the group committed in its log and its changelog."""
    now = Trust(changelog_id, changelog[0])
    if committed is None or committed.offset <= 0:
        # Nothing was folded, or the offset is unknown: each state has its own position.
        return TakeOver(log[0], now)
    was = trust_of(committed.note)
    anew = _why_anew(was, now, changelog, restored)
    missing = was.missing if was else None
    if anew:
        return TakeOver(log[0], msgspec.structs.replace(now, missing=missing), anew)
    if committed.offset < log[0]:
        lost = Missing(committed.offset, log[0])
        return TakeOver(log[0], msgspec.structs.replace(now, missing=lost), lost=lost)
    return TakeOver(committed.offset, msgspec.structs.replace(now, missing=missing))


def _why_anew(was: Trust | None, now: Trust, changelog: Span, restored: Commit | None) -> str:
    if was is None:
        return "its position was not committed by a tracker"
    if restored is None or (was.changelog and now.changelog and was.changelog != now.changelog):
        return "its changelog was made again"
    if was.begin != now.begin:
        return f"records of its changelog were deleted up to offset {now.begin}"
    if restored.offset > changelog[1]:
        return f"its changelog ends at offset {changelog[1]}, and was written up to {restored.offset}"
    return ""


def has_hole(reached: int | None, changelog: Span) -> bool:
    """Return whether a local copy, restored up to `reached` inclusive, lacks records that the changelog dropped."""
    return reached is not None and (reached + 1 < changelog[0] or reached >= changelog[1])


def describe(missing: Mapping[int, Missing]) -> str:
    """Return the ranges as a text."""
    return ", ".join(f"offsets {each.first} to {each.end - 1} of partition {p}" for p, each in sorted(missing.items()))


_decode = msgspec.json.Decoder(Trust).decode
