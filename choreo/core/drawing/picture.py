"""A flow's picture as values: boxes with their places, and arrows as curves; the page draws what the SVG file has."""

from __future__ import annotations

from typing import NamedTuple

from choreo.core.definition import FlowDefinition
from choreo.core.drawing.layout import layout
from choreo.core.drawing.svg import Box, arrows_of, boxes_of, curve


class Node(NamedTuple):
    """A box of the picture."""

    name: str
    """`step payment.charge`, `event PaymentCharged`, a wait's name, `completed` or `compensation`."""
    box: Box
    x: float
    """Of its left side."""
    y: float
    """Of its upper side."""


class Line(NamedTuple):
    """An arrow of the picture."""

    source: str
    target: str
    kind: str
    """`failure`, `undo`, or "" for the way forward."""
    path: str
    """The data of its path element."""


class Picture(NamedTuple):
    """A flow's picture."""

    nodes: list[Node]
    lines: list[Line]
    width: float
    height: float


def picture(flow: FlowDefinition) -> Picture:
    """Return the picture; the same definition gives the same one."""
    boxes = dict(boxes_of(flow))
    arrows = arrows_of(flow, boxes)
    placed = layout({name: box.size for name, box in boxes.items()}, [(a.source, a.target) for a in arrows])
    nodes = []
    for name, box in boxes.items():
        (x, y), (width, height) = placed.centres[name], box.size
        nodes.append(Node(name, box, x - width / 2, y - height / 2))
    lines = [Line(a.source, a.target, a.kind, curve(route)) for route, a in zip(placed.routes, arrows, strict=True)]
    return Picture(nodes, lines, placed.width, placed.height)
