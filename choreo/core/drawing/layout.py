"""Place boxes in layers, so that edges lead down: the method of Sugiyama, small and the same each time.

Cycles are broken, boxes get layers, long edges get a place in each layer that they cross, each layer is ordered by the
neighbours above and below, and columns are moved to their neighbours. Knows sizes and edges; nothing of flows.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

GAP_X, GAP_Y, MARGIN = 24.0, 44.0, 16.0
_SWEEPS = 12
_PASSES = 10
_VISITS_MAX = 6_000
"""Visits of places over all sweeps, about 100 ms: in a picture with thousands of bends fewer sweeps must do."""

Size: TypeAlias = tuple[float, float]
Edge: TypeAlias = tuple[str, str]
Point: TypeAlias = tuple[float, float]


class Layout(NamedTuple):
    """Centres of the boxes, the points of each edge from its first box to its second, and the size of the whole."""

    centres: dict[str, Point]
    routes: list[list[Point]]
    width: float
    height: float


def layout(sizes: Mapping[str, Size], edges: Sequence[Edge]) -> Layout:
    """Return where boxes of these sizes stand, and how the edges between them run."""
    turned = _turned(sizes, edges)
    down = [(b, a) if at in turned else (a, b) for at, (a, b) in enumerate(edges)]
    layers, chains, all_sizes = _layered(sizes, down)
    effort = _VISITS_MAX // max(1, len(all_sizes))
    ordered = _ordered(layers, chains, min(_SWEEPS, max(2, effort)))
    x = _columns(ordered, chains, all_sizes, min(_PASSES, max(2, effort)))
    y, height = _rows(ordered, all_sizes)
    left = min((x[name] - all_sizes[name][0] / 2 for name in x), default=0.0) - MARGIN
    centres = {name: (round(x[name] - left, 1), round(y[name], 1)) for name in x}
    routes = [_route(chain, centres, all_sizes, turned=at in turned) for at, chain in enumerate(chains)]
    width = max((centres[name][0] + all_sizes[name][0] / 2 for name in x), default=0.0) + MARGIN
    return Layout({name: centres[name] for name in sizes}, routes, round(width, 1), round(height, 1))


def _turned(sizes: Mapping[str, Size], edges: Sequence[Edge]) -> set[int]:
    """Return the numbers of the edges that close a cycle, in the order of a depth-first search."""
    outgoing: dict[str, list[tuple[int, str]]] = {name: [] for name in sizes}
    for at, (source, target) in enumerate(edges):
        outgoing[source].append((at, target))
    turned, done = set[int](), set[str]()
    for root in sizes:
        path: dict[str, int] = {} if root in done else {root: 0}
        while path:
            name = next(reversed(path))
            if path[name] == len(outgoing[name]):
                done.add(name)
                del path[name]
                continue
            at, target = outgoing[name][path[name]]
            path[name] += 1
            if target in path:
                turned.add(at)
            elif target not in done:
                path[target] = 0
    return turned


def _layered(
    sizes: Mapping[str, Size], edges: Sequence[Edge]
) -> tuple[list[list[str]], list[list[str]], dict[str, Size]]:
    """Return the layers of boxes and bends, the chain of each edge through them, and the sizes of both."""
    after: dict[str, list[str]] = {name: [] for name in sizes}
    missing = dict.fromkeys(sizes, 0)
    for source, target in edges:
        if source != target:
            after[source].append(target)
            missing[target] += 1
    layer = dict.fromkeys(sizes, 0)
    ready = [name for name in sizes if not missing[name]]
    for name in ready:  # grows while it is read
        for target in after[name]:
            layer[target] = max(layer[target], layer[name] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in sizes:
        layers[layer[name]].append(name)
    all_sizes, chains = dict(sizes), []
    for at, (source, target) in enumerate(edges):
        bends = [f"\0{at}.{number}" for number in range(layer[source] + 1, layer[target])]
        for number, bend in enumerate(bends, layer[source] + 1):
            layers[number].append(bend)
            all_sizes[bend] = (8.0, 0.0)
        chains.append([source, *bends, target])
    return layers, chains, all_sizes


def _ordered(layers: list[list[str]], chains: Sequence[Sequence[str]], sweeps: int) -> list[list[str]]:
    """Return the layers with few crossings of edges: each is sorted by the middle of its neighbours, in some sweeps."""
    above, below = _neighbours(chains)
    best, fewest = layers, _crossings(layers, below)
    order = [list(layer) for layer in layers]
    for sweep in range(sweeps):
        if not fewest:
            break
        downward = sweep % 2 == 0
        near = above if downward else below
        numbers = range(1, len(order)) if downward else range(len(order) - 2, -1, -1)
        for number in numbers:
            place = {name: at for at, name in enumerate(order[number - 1 if downward else number + 1])}
            middle = {
                name: _mean([place[other] for other in near.get(name, ())], at) for at, name in enumerate(order[number])
            }
            order[number].sort(key=middle.__getitem__)
        crossings = _crossings(order, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in order], crossings
    return best


def _neighbours(chains: Iterable[Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            if upper != lower:
                above.setdefault(lower, []).append(upper)
                below.setdefault(upper, []).append(lower)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(layers: Sequence[Sequence[str]], below: Mapping[str, Sequence[str]]) -> int:
    """Return how many pairs of edges cross between neighbouring layers."""
    crossings = 0
    for upper, lower in pairwise(layers):
        place = {name: at for at, name in enumerate(lower)}
        ends: list[int] = []
        for name in upper:
            own = sorted(place[other] for other in below.get(name, ()))
            crossings += sum(len(ends) - bisect_right(ends, end) for end in own)
            for end in own:
                insort(ends, end)
    return crossings


def _columns(
    layers: Sequence[Sequence[str]], chains: Sequence[Sequence[str]], sizes: Mapping[str, Size], passes: int
) -> dict[str, float]:
    """Return the x of each box: near the middle of its neighbours, in its order, and apart from the next one."""
    above, below = _neighbours(chains)
    x: dict[str, float] = {}
    for layer in layers:
        x |= _apart(layer, [0.0] * len(layer), sizes)
    for turn in range(passes):
        near = above if turn % 2 == 0 else below
        for layer in layers if turn % 2 == 0 else reversed(layers):
            wanted = [_mean([x[other] for other in near.get(name, ())], x[name]) for name in layer]
            x |= _apart(layer, wanted, sizes)
    return x


def _apart(layer: Sequence[str], wanted: Sequence[float], sizes: Mapping[str, Size]) -> dict[str, float]:
    """Return the x nearest to the wanted ones (least squares) at which the boxes of a layer do not overlap.

    Less the room before each box, the x must not fall: neighbours that would are pooled at their mean.
    """
    room, blocks = [0.0], list[tuple[float, int]]()
    for left, right in pairwise(layer):
        room.append(room[-1] + (sizes[left][0] + sizes[right][0]) / 2 + GAP_X)
    for at, want in enumerate(wanted):
        total, count = want - room[at], 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            more, members = blocks.pop()
            total, count = total + more, count + members
        blocks.append((total, count))
    placed = [total / count for total, count in blocks for _ in range(count)]
    return {name: placed[at] + room[at] for at, name in enumerate(layer)}


def _rows(layers: Sequence[Sequence[str]], sizes: Mapping[str, Size]) -> tuple[dict[str, float], float]:
    """Return the y of each box, and the height of the whole."""
    y, top = dict[str, float](), MARGIN
    for layer in layers:
        high = max(sizes[name][1] for name in layer)
        y |= dict.fromkeys(layer, top + high / 2)
        top += high + GAP_Y
    return y, max(top - GAP_Y, MARGIN) + MARGIN


def _route(
    chain: Sequence[str], centres: Mapping[str, Point], sizes: Mapping[str, Size], *, turned: bool
) -> list[Point]:
    """Return the points of an edge: from the lower side of its first box to the upper side of its last one."""
    first, last = chain[0], chain[-1]
    start = (centres[first][0], centres[first][1] + sizes[first][1] / 2)
    end = (centres[last][0], centres[last][1] - sizes[last][1] / 2)
    points = [start, *(centres[bend] for bend in chain[1:-1]), end]
    return points[::-1] if turned else points
