"""The faults of a run and their times: drawn from a seed, so that a failed run is played again by its number."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.world import REST, SLOTS, role_of
from tests.support.fleet import SERVICES

JOIN, LEAVE, BROKER, REDIS, KILL, WIPE, FORGET = "join", "leave", "broker", "redis", "kill", "wipe", "forget"
TRIPS = "trips"
"""The kill of a process of the travel flow; its slot is a number."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    slot: str = ""


@dataclass(frozen=True)
class Plan:
    """All of a run. Seconds are real ones."""

    seed: int
    orders: int
    kills: int
    away_s: float
    faults: tuple[Fault, ...]


def drawn(seed: int) -> Plan:
    """Return the plan of this seed; CHOREO_CHAOS_ORDERS, _KILLS and _AWAY_S make it larger: `make chaos` does."""
    orders, kills = _size()
    away_s = float(os.environ.get("CHOREO_CHAOS_AWAY_S", "6"))
    return Plan(seed, orders, kills, away_s, tuple(_faults(random.Random(seed), kills)))


def forgetful(seed: int) -> Plan:
    """Return a plan in which Redis loses all it knew while work is in flight; before and after, processes are killed.

    A quarter as large as the other one: only one fault is new in it.
    """
    orders, kills = (max(least, size // 4) for least, size in zip((300, 4), _size(), strict=True))
    chance = random.Random(seed)
    faults = [Fault(KILL, slot) for slot in _victims(chance, kills, [slot for slot in SLOTS if role_of(slot) != REST])]
    faults.insert(kills // 2, Fault(FORGET))
    return Plan(seed, orders, kills, 0, tuple(faults))


def _size() -> tuple[int, int]:
    """Return orders and kills."""
    return int(os.environ.get("CHOREO_CHAOS_ORDERS", "300")), int(os.environ.get("CHOREO_CHAOS_KILLS", "6"))


def _victims(chance: random.Random, kills: int, slots: Sequence[str]) -> list[str]:
    """Return the victims, each role about equally often."""
    victims: list[str] = []
    while len(victims) < kills:
        victims += chance.sample(slots, len(slots))
    return victims[:kills]


def _faults(chance: random.Random, kills: int) -> list[Fault]:
    """Return the faults: between the kills, consumers join and leave and servers go away."""
    faults = [Fault(KILL, slot) for slot in _victims(chance, kills, SLOTS)]
    third = f"{chance.choice(SERVICES)}-3"
    others = [Fault(JOIN, third), Fault(BROKER), Fault(WIPE, "tracker-1"), Fault(LEAVE, third), Fault(REDIS)]
    others[2:2] = [Fault(TRIPS, "0")]
    others.append(Fault(TRIPS, "0"))
    for number, fault in enumerate(others, 1):
        place = number * kills // (len(others) + 1) + number - 1
        faults.insert(place, fault)
    return faults
