"""A flow as an SVG picture: steps, waits and other flows as boxes, events as pills between them.

Failures are red and lead to the start of compensation, undos are dashed, each service has its colour. The same
definition gives the same text; nothing of it is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from choreo.core.conditions import text
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.diagram import shown_wait
from choreo.core.drawing.layout import Point, layout

_LETTER, LINE, _PAD = 7.0, 15.0, 10.0
_WIDE = 34
"""Letters in a line of a box; a longer text goes on in the next line."""
_COLOURS = ("#dbeafe", "#dcfce7", "#fef3c7", "#fae8ff", "#ffe4e6", "#e0f2fe", "#ecfccb", "#ede9fe")
_STYLE = (
    "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2937;text-anchor:middle}"
    "rect{stroke:#475569}path{fill:none;stroke:#475569;stroke-width:1.3}"
    ".event{fill:#fff;stroke:#94a3b8}.wait{fill:#fff7ed;stroke-dasharray:2 2}.end{fill:#f1f5f9;stroke-width:2.5}"
    ".failure{fill:#fef2f2;stroke:#dc2626}.undo{fill:#fff;stroke:#94a3b8;stroke-dasharray:4 3}"
    "path.failure{fill:none}path.undo{fill:none}.note{fill:#64748b;font-style:italic}"
)


_HEAD = (
    '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
    '<path d="M1 1L7 4L1 7" /></marker></defs>'
)


class Box(NamedTuple):
    """A box: its lines of text, its class in the style sheet, its fill, and how round its corners are."""

    lines: tuple[str, ...]
    kind: str
    fill: str = ""
    round: float = 4.0

    @property
    def size(self) -> tuple[float, float]:
        """Return width and height."""
        longest = max(len(line) for line in self.lines)
        return longest * _LETTER + 2 * _PAD, len(self.lines) * LINE + _PAD


class Arrow(NamedTuple):
    """An arrow between two boxes, and its class in the style sheet."""

    source: str
    target: str
    kind: str = ""


def svg(flow: FlowDefinition) -> str:
    """Return the flow as SVG with a final newline; it shows every step, wait, compensation and event."""
    boxes = dict(boxes_of(flow))
    arrows = arrows_of(flow, boxes)
    placed = layout({name: box.size for name, box in boxes.items()}, [(a.source, a.target) for a in arrows])
    size = f'width="{placed.width:g}" height="{placed.height:g}" viewBox="0 0 {placed.width:g} {placed.height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{_escaped(f'flow {flow.name}')}</title><style>{_STYLE}</style>",
        _HEAD,
        f'<rect x="0" y="0" width="{placed.width:g}" height="{placed.height:g}" style="fill:#fff;stroke:none" />',
        *(_path(route, arrow.kind) for route, arrow in zip(placed.routes, arrows, strict=True)),
        *(part for name, box in boxes.items() for part in _drawn(box, placed.centres[name])),
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def boxes_of(flow: FlowDefinition) -> Iterator[tuple[str, Box]]:
    """Yield every box with its name; events are drawn once, also where several parts emit them."""
    services = list(dict.fromkeys(step.service for step in flow.steps))
    failures = {type_ for step in flow.steps for type_ in step.fails} | {flow.fails}
    failures |= {type_ for wait in flow.waits for type_ in (wait.refused, wait.fails)}
    undos = {type_ for step in flow.steps if step.compensation for type_ in step.compensation.emits}
    for type_ in _events(flow):
        kind = "failure" if type_ in failures else "undo" if type_ in undos else "event"
        yield f"event {type_}", Box(_wrapped(type_), kind, round=12.0)
    for step in flow.steps:
        fill = _COLOURS[services.index(step.service) % len(_COLOURS)]
        yield f"step {step.name}", Box(tuple(_step_lines(step)), "step", fill)
    for wait in flow.waits:
        yield wait.name, Box(_wrapped(shown_wait(wait)), "wait", round=10.0)
    for carry in flow.carries:
        yield carry.name, Box(_wrapped(f"flow {carry.to}: {' or '.join(carry.says)}"), "end")
    yield "completed", Box(("completed",), "end", round=12.0)
    if failures - {""} or undos:
        yield "compensation", Box(("compensation:", "undone newest first"), "end", round=12.0)


def arrows_of(flow: FlowDefinition, boxes: Mapping[str, Box]) -> list[Arrow]:
    """Return every arrow once whose ends are drawn."""
    return list(dict.fromkeys(each for each in _arrows(flow) if {each.source, each.target} <= boxes.keys()))


def _step_lines(step: StepDefinition) -> Iterator[str]:
    yield from _wrapped(step.name)
    if step.all_of:
        yield f"needs all {len(step.all_of)}"
    if step.when is not None:
        condition = text(step.when)
        yield from _wrapped(condition if condition == "otherwise" else f"if {condition}")
    if step.children:
        yield from _wrapped(f"children: flow {step.children.flow}")
    elif step.compensation:
        yield "can be undone"


def _events(flow: FlowDefinition) -> list[str]:
    """Return every event in the order of its first mention, the start first."""
    found = [flow.starts]
    for step in flow.steps:
        found += [*step.triggers, *step.emits, *step.fails, *(step.compensation.emits if step.compensation else ())]
    for wait in flow.waits:
        found += [wait.on, *wait.answers, wait.late, *wait.says, wait.moved_by]
    found += [*flow.ends, flow.fails, *(carry.on for carry in flow.carries)]
    return [type_ for type_ in dict.fromkeys(found) if type_]


def _arrows(flow: FlowDefinition) -> Iterator[Arrow]:
    for step in flow.steps:
        name = f"step {step.name}"
        yield from (Arrow(f"event {type_}", name) for type_ in step.triggers)
        yield from (Arrow(name, f"event {type_}") for type_ in step.emits)
        for type_ in step.fails:
            yield Arrow(name, f"event {type_}", "failure")
            yield Arrow(f"event {type_}", "compensation", "failure")
        for type_ in step.compensation.emits if step.compensation else ():
            yield Arrow(name, f"event {type_}", "undo")
    for wait in flow.waits:
        yield from (Arrow(f"event {type_}", wait.name) for type_ in (wait.on, wait.moved_by) if type_)
        yield from (Arrow(wait.name, f"event {type_}") for type_ in (*wait.leads_to, *wait.says))
        for type_ in filter(None, (wait.refused, wait.fails)):
            yield Arrow(wait.name, f"event {type_}", "failure")
            yield Arrow(f"event {type_}", "compensation", "failure")
    yield from (Arrow(f"event {type_}", "completed") for type_ in flow.ends)
    yield from (Arrow(f"event {carry.on}", carry.name) for carry in flow.carries)
    if flow.fails:
        yield Arrow("compensation", f"event {flow.fails}", "failure")


def _drawn(box: Box, centre: Point) -> Iterator[str]:
    """Yield the lines of a box and its text."""
    (width, height), (x, y) = box.size, centre
    fill = f' style="fill:{box.fill}"' if box.fill else ""
    place = f'x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}" rx="{box.round:g}"'
    yield f'<rect class="{box.kind}" {place}{fill} />'
    first = y - (len(box.lines) - 1) * LINE / 2 + 4
    for number, line in enumerate(box.lines):
        note = ' class="note"' if number and box.kind == "step" else ""
        yield f'<text x="{x:g}" y="{first + number * LINE:g}"{note}>{_escaped(line)}</text>'


def _path(route: Iterable[Point], kind: str) -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<path{styled} d="{curve(route)}" marker-end="url(#head)" />'


def curve(route: Iterable[Point]) -> str:
    """Return the path data of a curve through these points, upright at each of them."""
    (x, y), *others = route
    parts = [f"M{x:g} {y:g}"]
    for to_x, to_y in others:
        middle = (y + to_y) / 2
        parts.append(f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
    return "".join(parts)


def _wrapped(words: str) -> tuple[str, ...]:
    """Return a text in lines of a box; a word that is longer than a line stays whole."""
    lines = [""]
    for word in words.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDE:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return tuple(lines)


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def _escaped(words: str) -> str:
    """Return a text as XML can hold it: no markup, no control characters."""
    return "".join(_ESCAPES.get(letter, letter) if letter.isprintable() else "�" for letter in words)
