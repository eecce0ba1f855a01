"""Who of a consumer group owns which partition: a pure function of the group's rows, the same in every home.

Each member decides for itself only, inside the home's transaction: it gives up what exceeds its fair share, and takes
what is free up to its share. Nobody takes from a live member; an expired one is no member. Knows no storage, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class Seat(NamedTuple):
    """A member's row. The incarnation tells a process from an older one of the same name."""

    incarnation: int
    expires_ms: int


class Lease(NamedTuple):
    """A partition's row. The epoch is new with every owner, and is what a commit is checked against."""

    owner: str
    epoch: int
    committed: int


class Roster(NamedTuple):
    """All rows of one group on one topic."""

    seats: Mapping[str, Seat]
    leases: Mapping[int, Lease]


class Ticket(msgspec.Struct, frozen=True):
    """What names a member to its home."""

    topic: str
    group: str
    name: str
    incarnation: int

    @property
    def place(self) -> str:
        """The member as an error names it."""
        return f"group {self.group!r} on topic {self.topic!r}, member {self.name!r}"


LEASE_MAX_MS = 3_600_000
"""A lease that ends later than this was written by another clock (another boot of the machine): it has ended."""


class Turn(msgspec.Struct, frozen=True):
    """What a member has to change now."""

    fenced: bool = False
    """A newer process of the same name has joined: this one is out."""
    expired: tuple[str, ...] = ()
    release: tuple[int, ...] = ()
    claim: tuple[int, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether anything changes in who owns what."""
        return bool(self.expired or self.release or self.claim)


def turn(roster: Roster, ticket: Ticket, now_ms: int) -> Turn:
    """The member's turn at this moment.

    Fair shares: each of m members gets p // m of p partitions; the p % m left over go to those that hold most, then
    by name, so that as few as possible change hands and everyone who reckons with the same rows agrees.
    """
    name = ticket.name
    seat = roster.seats.get(name)
    if seat is not None and seat.incarnation != ticket.incarnation:
        return Turn(fenced=True)
    live = range(now_ms + 1, now_ms + LEASE_MAX_MS + 1)
    expired = tuple(sorted(n for n, s in roster.seats.items() if s.expires_ms not in live and n != name))
    held: dict[str, list[int]] = {n: [] for n in roster.seats if n not in expired}
    held.setdefault(name, [])
    free: list[int] = []
    for partition, lease in sorted(roster.leases.items()):
        held.get(lease.owner, free).append(partition)
    ranks = sorted(held, key=lambda n: (-len(held[n]), n))
    share, left_over = divmod(len(roster.leases), len(held))
    quota = share + (ranks.index(name) < left_over)
    mine = held[name]
    return Turn(expired=expired, release=tuple(mine[quota:]), claim=tuple(free[: max(0, quota - len(mine))]))
