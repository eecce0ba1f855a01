"""Sound flows have no finding at all: the reference flow, the travel flows, every recipe, every page of the docs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from choreo import Flow
from choreo.app.bridge import findings as between
from services.order_flow import order
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip
from tests.support.reader import blocks_of

ROOT = Path(__file__).parents[3]
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if any(block.kind == "snippet" and "Flow(" in block.text for block in blocks_of(page))
    and page.stem != "checking"  # shows findings on purpose
]


def codes_in(flows: dict[str, Flow]) -> list[str]:
    """Return the findings about these flows, each with its code."""
    found = [finding for flow in flows.values() for finding in flow.findings()]
    return [f"{finding.code} {finding.sentence}" for finding in [*found, *between(flows)]]


def test_the_reference_and_the_travel_flows_have_no_finding() -> None:
    """Neither an error nor a warning."""
    assert codes_in({"order": order, "trip": trip, "ticket": ticket}) == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_flows_of_the_documentation_have_no_finding(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader copies them, and the first check must be quiet."""
    files: dict[str, str] = {}
    for block in blocks_of(page):
        if block.kind in ("snippet", "append"):
            files[block.argument] = (files.get(block.argument, "") if block.kind == "append" else "") + block.text
    modules = [name.removesuffix(".py") for name in files if name.endswith(".py") and "/" not in name]
    monkeypatch.syspath_prepend(str(tmp_path))
    for each in modules:
        monkeypatch.delitem(sys.modules, each, raising=False)  # such as schemas.py, a name that this project has too
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    flows = 0
    for module in modules:
        if not module.startswith("test_") and "Flow(" in files[f"{module}.py"]:
            try:
                found = [value for value in vars(importlib.import_module(module)).values() if type(value) is Flow]
            finally:
                for each in modules:
                    sys.modules.pop(each, None)
            assert codes_in({flow.name: flow for flow in found}) == [], module
            flows += len(found)
    assert flows
