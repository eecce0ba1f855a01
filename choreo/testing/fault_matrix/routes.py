"""Find the routes of a fault matrix: runs without its faults in which each step, and each compensation, is called.

First the samples of the start event, then the other answers of waits, the declared failures, cancels, and failures for
good. The shortest run that calls a handler is its route.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.testing.fault_matrix.cells import handled
from choreo.testing.fault_matrix.playing import CANCEL, Play, Players, Route
from choreo.testing.simulation.plan import OUTSIDE, START, Action, Plan

KEY = "k-1"
SAMPLES = 8
"""Samples of a start event: enough for each branch of a condition on one of a few values."""
_SOON_MS = 1_000
_FOR_GOOD = 1_000

Place = tuple[str, bool]
"""A step, and whether its compensation is meant."""


class Routes:
    """The route to each step and to each compensation."""

    def __init__(self) -> None:
        """Know none."""
        self.found: dict[Place, tuple[Route, Play]] = {}
        self.tried: list[tuple[Route, Play]] = []
        """Every route that was played."""

    def take(self, route: Route, play: Play) -> None:
        """Note a route, where it is the shortest one to a handler."""
        self.tried.append((route, play))
        for place in set(play.called):
            known = self.found.get(place)
            if known is None or _rank(route, play) < _rank(*known):
                self.found[place] = (route, play)


def _rank(route: Route, play: Play) -> tuple[bool, bool, bool, int]:
    """Return the order of preference: a run that keeps the promises, as it is usual, complete, and short."""
    return bool(play.faults), route.is_varied, not play.ends.startswith("completed"), len(play.called)


def find(players: Players) -> Routes:
    """Play routes until every handler has been called, or none is left."""
    definitions = players.project.definitions
    routes = Routes()
    wanted = _wanted(definitions)
    for flow in _roots(definitions):
        for route in _candidates(flow, definitions, routes):
            if route.is_varied and wanted <= routes.found.keys():
                break
            routes.take(route, players.play(route))
    return routes


def _wanted(definitions: Mapping[str, FlowDefinition]) -> set[Place]:
    steps = handled(definitions.values())
    return {(step.name, False) for step in steps} | {
        (step.name, True) for step in steps if step.compensation and not step.children
    }


def _roots(definitions: Mapping[str, FlowDefinition]) -> list[FlowDefinition]:
    return [flow for flow in definitions.values() if not set(flow.parents) & set(definitions)]


def _candidates(flow: FlowDefinition, definitions: Mapping[str, FlowDefinition], routes: Routes) -> Iterator[Route]:
    """Yield routes of a flow; the later ones vary the best sample."""
    steps = _steps_below(flow, definitions)
    best: tuple[tuple[bool, bool, int], int] | None = None
    for sample in range(SAMPLES):
        yield _route("as it is usual" if not sample else f"with start event {sample + 1}", flow, sample)
        play = routes.tried[-1][1]
        rank = (bool(play.faults), "completed" not in play.ends, len(play.called))
        if best is None or rank < best[0]:
            best = (rank, sample)
        is_plain = play.ends.startswith("completed") and len(set(play.called)) == len(play.called)
        if is_plain and all((step.name, False) in routes.found for step in steps):
            break
    sample = best[1] if best else 0
    yield from _waits(flow, sample)
    yield from _failures(flow, steps, sample)


def _steps_below(flow: FlowDefinition, definitions: Mapping[str, FlowDefinition]) -> list[StepDefinition]:
    """Return the steps of a flow and of its child flows."""
    names = [flow.name]
    for name in names:
        of = definitions[name].steps if name in definitions else ()
        names += [step.children.flow for step in of if step.children and step.children.flow not in names]
    return handled(definitions[name] for name in names if name in definitions)


def _waits(flow: FlowDefinition, sample: int) -> Iterator[Route]:
    for wait in flow.waits:
        for answer in wait.answers[1:]:
            yield _route(f"with {answer} in place of {wait.until}", flow, sample, {wait.name: answer})
        if wait.answers:
            yield _route(f"without {wait.until}", flow, sample, {wait.name: ""})


def _failures(flow: FlowDefinition, steps: Sequence[StepDefinition], sample: int) -> Iterator[Route]:
    for step in reversed(steps):
        for number, failure in enumerate(() if step.children else step.fails):
            declined = Action("declared-failure", number, step.name, n=1)
            yield _route(f"{step.name} answers {failure}", flow, sample, more=(declined,))
    for step in flow.steps:
        for type_ in step.emits[:1]:
            cancel = Action(CANCEL, 0, f"{KEY} {type_}", flow.name)
            yield _route(f"an operator cancels it after {type_}", flow, sample, more=(cancel,))
    for step in reversed(steps):
        failing = Action("late-error", 0, step.name, n=1, calls=_FOR_GOOD)
        yield _route(f"every attempt of {step.name} fails after its work", flow, sample, more=(failing,))


def _route(
    text: str,
    flow: FlowDefinition,
    sample: int,
    answers: Mapping[str, str] | None = None,
    more: tuple[Action, ...] = (),
) -> Route:
    """Return the run of this sample, with these answers to waits in place of the usual ones; "" for none."""
    actions = [Action(START, 0, KEY, flow.name)]
    for wait in flow.waits:
        answer = (answers or {}).get(wait.name, wait.until if wait.answers else "")
        if answer:
            actions.append(Action(OUTSIDE, _SOON_MS, f"{KEY} {answer} {wait.on}", flow.name))
    is_varied = answers is not None or bool(more)
    return Route(text, Plan(sample, (*actions, *more)), flow.name, is_varied=is_varied)
