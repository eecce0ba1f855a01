"""The page docs/detection.md: a row for each planted fault, from the patches' headers and the table of seeds."""

from __future__ import annotations

import re

from tests.support.faulty_copy import ROOT, breaks, patches

PAGE = ROOT / "docs" / "detection.md"
_HEAD = """# Planted faults, and the tools that find them

Each patch in `tests/planted/` breaks one rule of choreo. Tests apply it to a copy of the package, and a tool must find
it: [`choreo verify`](how-to/verify.md) in every order of a small flow, [`choreo simulate`](how-to/simulate.md) on the
real services and hosts, or the conformance suite of a port. *Seeds* is the number of seeds that the simulator needs,
counted from the first. On the same flows and seeds the package without the fault breaks no promise.

`python -m tests.testing.simulation.survey` measures the seeds anew, and writes this page.

| fault | breaks | found by | seeds |
| --- | --- | --- | --- |
"""
_TOOL = re.compile(r"(verify|simulate|suite) \(([^)]+)\)")


def page(seeds: dict[str, int]) -> str:
    """Return the page; `seeds` by fault."""
    rows = []
    for patch in patches():
        line = next(line for line in patch.read_text().splitlines() if line.startswith("tools: "))
        tools = [f"{tool} `{_short(where)}`" for tool, where in _TOOL.findall(line)]
        count = str(seeds.get(patch.stem, "")) or "–"
        rows.append(f"| {patch.stem} | {breaks(patch)} | {', '.join(tools)} | {count} |\n")
    return _HEAD + "".join(rows)


def _short(where: str) -> str:
    """Return the place without the folder of a test."""
    return where.rpartition("-k ")[2] if " -k " in where else where
