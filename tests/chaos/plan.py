"""What is to go wrong, and when: drawn from a seed, so that a failed run is played again by its number."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from tests.chaos.world import SLOTS
from tests.support.fleet import SERVICES

JOIN, LEAVE, BROKER, REDIS, KILL, WIPE, FORGET = "join", "leave", "broker", "redis", "kill", "wipe", "forget"


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
    """The plan of this seed; CHOREO_CHAOS_ORDERS, _KILLS and _AWAY_S make it larger: `make chaos` does."""
    orders = int(os.environ.get("CHOREO_CHAOS_ORDERS", "300"))
    kills = int(os.environ.get("CHOREO_CHAOS_KILLS", "6"))
    away_s = float(os.environ.get("CHOREO_CHAOS_AWAY_S", "6"))
    return Plan(seed, orders, kills, away_s, tuple(_faults(random.Random(seed), kills)))


def forgetful(seed: int) -> Plan:
    """A small plan in which Redis loses all it knew while work is in flight; before and after, processes are killed."""
    victims = random.Random(seed).sample([slot for slot in SLOTS if not slot.startswith("rest")], 4)
    kills = [Fault(KILL, slot) for slot in victims]
    return Plan(seed, 300, len(kills), 0, (*kills[:2], Fault(FORGET), *kills[2:]))


def _faults(chance: random.Random, kills: int) -> list[Fault]:
    """Everybody is killed about equally often; between the kills, members join and leave and servers go away."""
    victims: list[str] = []
    while len(victims) < kills:
        victims += chance.sample(SLOTS, len(SLOTS))
    faults = [Fault(KILL, slot) for slot in victims[:kills]]
    third = f"{chance.choice(SERVICES)}-3"
    others = [Fault(JOIN, third), Fault(BROKER), Fault(WIPE, "tracker-1"), Fault(LEAVE, third), Fault(REDIS)]
    for number, fault in enumerate(others, 1):
        place = number * kills // (len(others) + 1) + number - 1
        faults.insert(place, fault)
    return faults
