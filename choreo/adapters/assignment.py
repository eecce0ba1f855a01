"""Partition assignment in a consumer group: a pure function of the group's rows, the same in every backend.

Each member decides for itself only, inside the backend's transaction: it gives up partitions above its fair share, and
takes free ones up to its share. No member takes from a live member; an expired one is no member. Knows no storage, no
clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from choreo.ports.log import GroupMember


class Membership(NamedTuple):
    """A member's row. The incarnation distinguishes a process from an older one of the same name."""

    incarnation: int
    expires_ms: int


class Lease(NamedTuple):
    """A partition's row. The epoch is new with every owner; a commit is checked against it."""

    owner: str
    epoch: int
    committed: int


class GroupState(NamedTuple):
    """All rows of one group on one topic."""

    memberships: Mapping[str, Membership]
    leases: Mapping[int, Lease]


class MemberId(msgspec.Struct, frozen=True):
    """The id of a member in its backend."""

    topic: str
    group: str
    name: str
    incarnation: int

    @property
    def place(self) -> str:
        """Return the member as an error names it."""
        return f"group {self.group!r} on topic {self.topic!r}, member {self.name!r}"


def live_members(group_state: GroupState, now_ms: int) -> list[GroupMember]:
    """Return the members whose lease has not expired, by name, each with the partitions that it owns."""
    live = range(now_ms + 1, now_ms + LEASE_MAX_MS + 1)
    owned: dict[str, list[int]] = {}
    for partition, lease in sorted(group_state.leases.items()):
        owned.setdefault(lease.owner, []).append(partition)
    return [
        GroupMember(name, "", tuple(owned.get(name, ())), str(membership.incarnation), name)
        for name, membership in sorted(group_state.memberships.items())
        if membership.expires_ms in live
    ]


LEASE_MAX_MS = 3_600_000
"""A lease that ends later than this was written by another clock (another boot of the machine): it has ended."""


class Rebalance(msgspec.Struct, frozen=True):
    """The changes that a member has to make now."""

    fenced: bool = False
    """A newer process of the same name has joined: this one has to leave."""
    expired: tuple[str, ...] = ()
    release: tuple[int, ...] = ()
    claim: tuple[int, ...] = ()

    @property
    def moves(self) -> bool:
        """Return whether a partition changes its owner."""
        return bool(self.expired or self.release or self.claim)


def rebalance(group_state: GroupState, member_id: MemberId, now_ms: int) -> Rebalance:
    """Return the member's part in the rebalance at this time.

    Fair shares: each of m members gets p // m of p partitions; the p % m left over go to the members that hold most,
    then by name, so that as few as possible change their owner and all members compute the same from the same rows.
    """
    name = member_id.name
    membership = group_state.memberships.get(name)
    if membership is not None and membership.incarnation != member_id.incarnation:
        return Rebalance(fenced=True)
    live = range(now_ms + 1, now_ms + LEASE_MAX_MS + 1)
    expired = tuple(sorted(n for n, s in group_state.memberships.items() if s.expires_ms not in live and n != name))
    held: dict[str, list[int]] = {n: [] for n in group_state.memberships if n not in expired}
    held.setdefault(name, [])
    free: list[int] = []
    for partition, lease in sorted(group_state.leases.items()):
        held.get(lease.owner, free).append(partition)
    ranks = sorted(held, key=lambda n: (-len(held[n]), n))
    share, left_over = divmod(len(group_state.leases), len(held))
    quota = share + (ranks.index(name) < left_over)
    mine = held[name]
    return Rebalance(expired=expired, release=tuple(mine[quota:]), claim=tuple(free[: max(0, quota - len(mine))]))
