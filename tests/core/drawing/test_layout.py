"""The layered layout: boxes do not overlap, edges lead down, and the same graph gives the same picture."""

from __future__ import annotations

from itertools import combinations
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from choreo.core.drawing.layout import GAP_X, layout

BOXES = st.dictionaries(
    st.sampled_from([f"b{number}" for number in range(14)]),
    st.tuples(st.floats(20, 200), st.floats(15, 60)),
    min_size=1,
)


Graph: TypeAlias = tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Return boxes and edges between them, cycles and loops included."""
    sizes = draw(BOXES)
    names = st.sampled_from(sorted(sizes))
    return sizes, draw(st.lists(st.tuples(names, names), max_size=30))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_boxes_stand_apart_and_within_the_picture(
    graph: tuple[dict[str, tuple[float, float]], list[tuple[str, str]]],
) -> None:
    """Edges, cycles and loops do not matter."""
    sizes, edges = graph
    placed = layout(sizes, edges)
    assert placed.centres.keys() == sizes.keys()
    for name, (x, y) in placed.centres.items():
        width, height = sizes[name]
        assert width / 2 <= x <= placed.width - width / 2 + 0.2
        assert height / 2 <= y <= placed.height - height / 2 + 0.2
    for one, other in combinations(sizes, 2):
        (x, y), (to_x, to_y) = placed.centres[one], placed.centres[other]
        beside = abs(x - to_x) + 0.2 >= (sizes[one][0] + sizes[other][0]) / 2 + GAP_X
        below = abs(y - to_y) + 0.2 >= (sizes[one][1] + sizes[other][1]) / 2
        assert beside or below
    assert [len(route) >= 2 for route in placed.routes] == [True] * len(edges)
    assert layout(sizes, edges) == placed


def test_edges_lead_down_except_one_of_a_cycle() -> None:
    """A chain with a way back: only that way leads up."""
    sizes = dict.fromkeys("abcd", (40.0, 20.0))
    placed = layout(sizes, [("a", "b"), ("b", "c"), ("c", "d"), ("c", "b")])
    up = [route[0][1] > route[-1][1] for route in placed.routes]
    assert up == [False, False, False, True]


def test_a_chain_stands_in_one_column() -> None:
    """Boxes move to the middle of their neighbours."""
    sizes = {name: (40.0 + 30 * number, 20.0) for number, name in enumerate("abcde")}
    placed = layout(sizes, [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")])
    assert len({x for x, _ in placed.centres.values()}) == 1


def test_edges_that_need_not_cross_do_not() -> None:
    """Two pairs in the wrong order are turned round."""
    sizes = dict.fromkeys("abcd", (40.0, 20.0))
    placed = layout(sizes, [("a", "d"), ("b", "c")])
    assert (placed.centres["a"][0] < placed.centres["b"][0]) == (placed.centres["d"][0] < placed.centres["c"][0])
