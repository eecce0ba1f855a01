"""Reductions: an exploration with all of them has the verdict and the end states of one with none."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.state import KeyState, encode
from choreo.testing.verification import canonical
from choreo.testing.verification.child_runs import Child
from choreo.testing.verification.explore import Explorer
from choreo.testing.verification.family_world import FamilyWorld
from choreo.testing.verification.moves import budget_of
from choreo.testing.verification.world import World
from tests.testing.verification.flows import FLOWS, PARCEL

CASES = [
    ("ONE", "crash=0,late-success"),
    ("BRANCHED", "crash,late-success,duplicate"),
    ("BRANCHED", "crash=0,late-success,lost-inbox"),
    ("BRANCHED", "crash=0,late-success,pause"),
    ("BRANCHED", "crash=0,late-success,foreign"),
    ("BRANCHED", "crash,late-success,dead-letter"),
    ("BRANCHED", "crash=0,late-success,terminate,cancel"),
    ("BRANCHED", "crash,late-success,late-timer,cancel"),
]


def ends(flow: str, moves: str, *, reduced: bool) -> tuple[int, bool, set[bytes]]:
    """Return the number of states, whether every promise holds in all of them, and the canonical end states."""
    world = World(FLOWS[flow], budget_of(moves), reduced=reduced)
    found = Explorer(world).explore()
    forms: list[KeyState] = [canonical.state(world.state_of(end)) for end in found.ends]
    return found.states, found.complete and found.violation is None, {encode(form) for form in forms}


@pytest.mark.parametrize(("flow", "moves"), CASES)
def test_a_reduced_exploration_has_the_same_ends(flow: str, moves: str) -> None:
    """Late answers are explored in both: without them a reduced host answers in time or not at all."""
    few, holds, reduced = ends(flow, moves, reduced=True)
    many, holds_unreduced, unreduced = ends(flow, moves, reduced=False)
    assert holds
    assert holds_unreduced
    assert reduced == unreduced
    assert few < many


@pytest.mark.parametrize("moves", ["crash=0", "crash=0,cancel"])
def test_a_merged_child_has_the_ends_of_an_unmerged_one(moves: str) -> None:
    """For its parent: one child of one step without a compensation, so that the unmerged states are few."""
    bare = replace(PARCEL, steps=(replace(PARCEL.steps[0], compensation=None, effect=False),))
    found = []
    for reduced in (True, False):
        child = Child(bare, budget_of(moves), 0, reduced=reduced)
        world = FamilyWorld(FLOWS["WINDOW"], budget_of(moves), (), {"fulfilment.split": child})
        seen = Explorer(world).explore()
        forms = {encode(canonical.state(world.state_of(end))) for end in seen.ends}
        found.append((len(child.moves), seen.states, seen.complete and seen.violation is None, forms))
    (few, states, holds, ends), (many, unmerged, also_holds, all_ends) = found
    assert (few < many, states < unmerged) == (True, True)
    assert (holds, also_holds, ends) == (True, True, all_ends)
