"""Paths and choices held against an exploration of every choice of small flows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from choreo.core.checks.checks import check
from choreo.core.checks.choices import Choices
from choreo.core.checks.paths import paths
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.flow_table import FlowTable
from tests.core.plain import flow, step

LAYERS, WIDE = 3, 2


@st.composite
def flows(draw: st.DrawFn) -> FlowDefinition:
    """Return a flow without cycles: each step reacts to earlier events, and emits one or several later ones."""
    layers = [["OrderPlaced"], *([f"E{layer}x{at}" for at in range(WIDE)] for layer in range(1, LAYERS))]
    steps: list[StepDefinition] = []
    for number in range(draw(st.integers(2, 8))):
        layer = draw(st.integers(0, LAYERS - 1))
        earlier = st.sampled_from([event for each in layers[: layer + 1] for event in each])
        later = st.sampled_from([*(event for each in layers[layer + 1 :] for event in each), "OrderConfirmed"])
        on = draw(st.lists(earlier, min_size=1, max_size=2, unique=True))
        emits = draw(st.lists(later, max_size=2, unique=True))
        kind = draw(st.sampled_from(["all_of", "all_of", "any_of"])) if len(on) > 1 else ""
        steps.append(
            step(
                f"s.step{number}",
                on[0],
                *emits,
                effect=False,
                emits_all=len(emits) > 1 and draw(st.booleans()),
                **({kind: tuple(on)} if kind else {}),
            )
        )
    return flow(*steps)


def runs(declared: FlowDefinition) -> Iterator[frozenset[str]]:
    """Yield the events of every run: each step picks one of its outcomes, and all that follows comes."""
    choosing = [each for each in declared.steps if len(each.emits) > 1 and not each.emits_all]
    for picked in product(*(each.emits for each in choosing)):
        choice = dict(zip((each.name for each in choosing), picked, strict=True))
        come, more = {declared.starts}, True
        while more:
            more = False
            for each in declared.steps:
                starts = come.issuperset(each.all_of) if each.all_of else not come.isdisjoint(each.triggers)
                new = {choice[each.name]} if each.name in choice else set(each.emits)
                if starts and not new <= come:
                    come |= new
                    more = True
        yield frozenset(come)


@settings(max_examples=200, deadline=None)
@given(flows())
def test_a_path_is_found_if_and_only_if_a_run_may_stop_before_the_end(declared: FlowDefinition) -> None:
    """No false alarm, and nothing overlooked; the path that is shown is part of such a run."""
    stopped = [come for come in runs(declared) if "OrderConfirmed" not in come]
    found = list(paths(declared, FlowTable(declared), ()))
    assert bool(found) == bool(stopped)
    for finding in found[:1]:
        way = finding.what.rpartition(": ")[2].split(" → ")
        assert any(come.issuperset(way) for come in stopped)


@settings(max_examples=200, deadline=None)
@given(flows())
def test_events_that_are_said_to_exclude_each_other_never_come_together(declared: FlowDefinition) -> None:
    """In no run at all."""
    choices = Choices(declared, FlowTable(declared))
    every = list(runs(declared))
    events = sorted({event for come in every for event in come})
    for one in events:
        for other in events:
            if choices.exclude(choices.of(one), choices.of(other)):
                assert not any({one, other} <= come for come in every), (one, other)


def test_a_long_flow_of_choices_and_joins_is_checked_to_its_end() -> None:
    """Choices that lead to the same event are not tried one by one: 25 of them would be 33 million paths."""
    steps, before = [], "OrderPlaced"
    for number in range(25):
        a, b, merged, beside, joined = (f"{name}{number}" for name in ("A", "B", "Merged", "Beside", "Joined"))
        steps += [
            step(f"s.choose{number}", before, a, b, effect=False),
            step(f"s.beside{number}", before, beside, effect=False),
            step(f"s.merge{number}", a, merged, effect=False, any_of=(a, b)),
            step(f"s.join{number}", merged, joined, effect=False, all_of=(merged, beside)),
        ]
        before = joined
    assert check(flow(*steps, step("s.end", before, "OrderConfirmed", effect=False))) == []
    (finding,) = check(
        flow(
            *steps, step("s.end", before, "Told", "OrderConfirmed", effect=False), step("s.note", "Told", effect=False)
        )
    )
    assert finding.code == "C206"
