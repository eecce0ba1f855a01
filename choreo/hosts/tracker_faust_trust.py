"""Which stored states may be decided from: those of this log, of a changelog that is whole, with no record missed.

The tracker notes beside each position what its states rest on. Where that is no longer so, the partition is folded
anew from the log's first record. Pure: it compares what was asked of the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.adapters.kafka.cluster import Commit
from choreo.adapters.kafka.origin import Origin, noted, read_note, written
from choreo.hosts.tracker_faust_partition import Missing

Span = tuple[int, int]
"""The first offset that a partition has, and the one that its next record will get."""


class Footing(msgspec.Struct, frozen=True, array_like=True):
    """What the states of one partition rest on."""

    changelog: str
    """The changelog's id."""
    begin: int
    """Its first offset: a compacted topic keeps it until somebody deletes records."""
    missing: Missing | None = None
    """The last range of the log that was never read."""


class Taken(msgspec.Struct, frozen=True):
    """How a partition is taken over."""

    position: int
    """Where to read on."""
    footing: Footing
    anew: str = ""
    """Why it is folded anew; "": it is not."""
    lost: Missing | None = None
    """A range that is found to be missing just now."""


def note_of(origin: Origin, footing: Footing) -> str:
    """Return what to note beside a position."""
    return written(noted(origin, msgspec.json.encode(footing).decode()))


def footing_of(note: str) -> Footing | None:
    """Return what a note says; None if it is none of ours."""
    origin, more = read_note(note)
    try:
        return None if origin is None else _decode(more)
    except msgspec.MsgspecError:
        return None


def reviewed(more: str) -> str:
    """Return what a note says after somebody has looked at the records that are missing."""
    try:
        footing = _decode(more)
    except msgspec.MsgspecError:
        return more
    return msgspec.json.encode(msgspec.structs.replace(footing, missing=None)).decode()


def taken(log: Span, committed: Commit | None, changelog_id: str, changelog: Span, restored: Commit | None) -> Taken:
    """Return how to take over a partition, by what the group committed in its log and in its changelog."""
    now = Footing(changelog_id, changelog[0])
    if committed is None or committed.offset <= 0:
        # Nothing was folded, or nobody knows how far: states that are there say themselves what they have read.
        return Taken(log[0], now)
    was = footing_of(committed.note)
    anew = _why_anew(was, now, changelog, restored)
    missing = was.missing if was else None
    if anew:
        return Taken(log[0], msgspec.structs.replace(now, missing=missing), anew)
    if committed.offset < log[0]:
        lost = Missing(committed.offset, log[0])
        return Taken(log[0], msgspec.structs.replace(now, missing=lost), lost=lost)
    return Taken(committed.offset, msgspec.structs.replace(now, missing=missing))


def _why_anew(was: Footing | None, now: Footing, changelog: Span, restored: Commit | None) -> str:
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
    """Whether a local copy, restored up to and with `reached`, lacks what the changelog no longer has."""
    return reached is not None and (reached + 1 < changelog[0] or reached >= changelog[1])


def describe(missing: Mapping[int, Missing]) -> str:
    """Return the ranges for people."""
    return ", ".join(f"offsets {each.first} to {each.end - 1} of partition {p}" for p, each in sorted(missing.items()))


_decode = msgspec.json.Decoder(Footing).decode
