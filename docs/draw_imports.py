"""Draw the packages of choreo and the imports between them: `python docs/draw_imports.py` writes docs/architecture.svg.

Rows are the layers that import-linter enforces. An import that a longer chain of arrows implies is left out.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

_OPENED = ("hosts", "app")
"""Packages of which each part is a box; every other package is one box."""
_WIDTH, _ROW, _TOP = 1_040, 104, 16
_BOX_HEIGHT, _GAP, _LETTER = 40, 18, 7.4
_STYLE = """
  rect.page { fill: #ffffff }
  rect.box { fill: #eef2ff; stroke: #3949ab }
  text { font: 13px ui-monospace, monospace; text-anchor: middle; fill: #1a237e }
  path { fill: none; stroke: #7986cb; stroke-width: 1.3; marker-end: url(#tip) }
"""
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<polygon points="0,0 8,4 0,8" fill="#7986cb"/></marker></defs>'
)

Edge = tuple[str, str]
Box = tuple[float, float, float]
"""Left edge, upper edge, width."""


def rows() -> list[list[str]]:
    """Return the packages of each layer, outermost first, as import-linter's contract names them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def box_of(module: str) -> str:
    """Return the box of a module: its package, or the part of a package of which each part is a box."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    if parts[0] in _OPENED and len(parts) > 1 and _is_part(parts[0], parts[1]):
        return "/".join(parts[:2])
    return parts[0]


def edges() -> set[Edge]:
    """Return which box imports which."""
    graph = grimp.build_graph("choreo", cache_dir=None)
    known = {name for row in rows() for name in row}
    found = {
        (box_of(importer), box_of(imported))
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    return {
        (start, end)
        for start, end in found
        if start != end and start.split("/")[0] in known and end.split("/")[0] in known
    }


def reduced(all_edges: set[Edge]) -> set[Edge]:
    """Return the edges that no chain of other edges implies."""
    followers: dict[str, set[str]] = defaultdict(set)
    for start, end in all_edges:
        followers[start].add(end)
    return {
        (start, end)
        for start, end in all_edges
        if not any(_reaches(followers, other, end) for other in followers[start] - {end})
    }


def picture() -> str:
    """Return the drawing as SVG."""
    drawn = reduced(edges())
    boxes = _boxes({name for edge in drawn for name in edge})
    height = _TOP + _ROW * len(rows())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>The packages of choreo; an arrow is an import</title>",
        f"<style>{_STYLE}</style>",
        _TIP,
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        *(_arrow(boxes[start], boxes[end]) for start, end in sorted(drawn)),
        *(_drawn_box(name, box) for name, box in sorted(boxes.items())),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _is_part(package: str, name: str) -> bool:
    """Return whether it is shown by itself: a package within `app`, anything within `hosts`."""
    return package == "hosts" or (ROOT / "choreo" / package / name).is_dir()


def _reaches(followers: dict[str, set[str]], start: str, end: str) -> bool:
    seen: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            left.extend(followers[name])
    return False


def _boxes(names: set[str]) -> dict[str, Box]:
    """Return the place of each box: a row for each layer, evenly spread."""
    found: dict[str, Box] = {}
    for number, row in enumerate(rows()):
        here = [name for package in row for name in sorted(names) if name.split("/")[0] == package]
        widths = [len(name) * _LETTER + 24 for name in here]
        left = (_WIDTH - sum(widths) - _GAP * (len(here) - 1)) / 2
        for name, width in zip(here, widths, strict=True):
            found[name] = (left, _TOP + _ROW * number, width)
            left += width + _GAP
    return found


def _arrow(start: Box, end: Box) -> str:
    """Return an arrow: straight to a lower row, a bow beneath the boxes within a row."""
    from_x, to_x = start[0] + start[2] / 2, end[0] + end[2] / 2
    from_y, to_y = start[1] + _BOX_HEIGHT, end[1]
    if start[1] == end[1]:
        bow = from_y + 34
        return f'<path d="M{from_x:.0f} {from_y} C{from_x:.0f} {bow} {to_x:.0f} {bow} {to_x:.0f} {from_y}"/>'
    return f'<path d="M{from_x:.0f} {from_y} L{to_x:.0f} {to_y}"/>'


def _drawn_box(name: str, box: Box) -> str:
    left, top, width = box
    return (
        f'<rect class="box" x="{left:.0f}" y="{top}" width="{width:.0f}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text x="{left + width / 2:.0f}" y="{top + 25}">{name}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
