"""The Grafana boards of deploy/observe: every expression parses, and asks for metrics of the catalogue as they are."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import promql_parser
import pytest
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    VectorSelector,
)

from choreo.app.metrics import CATALOGUE, series

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
BOARDS = sorted((OBSERVE / "boards").glob("*.json"))
OF_COUNTERS = frozenset({"rate", "increase", "irate"})


def script() -> ModuleType:
    """Return the script that makes the boards."""
    spec = importlib.util.spec_from_file_location("make_boards", OBSERVE / "make_boards.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds() -> dict[str, str]:
    """Return the kind of each series that the catalogue exports; of a histogram those of its parts."""
    found = {series(name): metric.kind for name, metric in CATALOGUE.items() if metric.kind != "histogram"}
    for name in (name for name, metric in CATALOGUE.items() if metric.kind == "histogram"):
        found |= {f"{series(name)}{part}": "counter" for part in ("_bucket", "_count", "_sum")}
    return found


def labels_of(name: str) -> set[str]:
    """Return the labels of a series."""
    for metric_name, metric in CATALOGUE.items():
        shown = series(metric_name)
        if name == shown or name in {f"{shown}{part}" for part in ("_bucket", "_count", "_sum")}:
            return {*metric.labels, *(["le"] if name.endswith("_bucket") else [])}
    return set()


def used(node: Any, function: str = "") -> Iterator[tuple[str, str, set[str]]]:
    """Yield each series of an expression, with the function that is applied to it and the labels it is matched by."""
    if isinstance(node, VectorSelector):
        yield node.name, function, {matcher.name for matcher in node.matchers.matchers}
    elif isinstance(node, MatrixSelector):
        yield from used(node.vector_selector, function)
    elif isinstance(node, Call):
        for argument in node.args:
            yield from used(argument, node.func.name)
    elif isinstance(node, (AggregateExpr, ParenExpr)):
        yield from used(node.expr)
    elif isinstance(node, BinaryExpr):
        yield from used(node.lhs)
        yield from used(node.rhs)
    else:
        assert isinstance(node, NumberLiteral), type(node)


def faults(expression: str) -> list[str]:
    """Return the faults of an expression; raises where it does not parse."""
    found, known = [], kinds()
    for name, function, matched in used(promql_parser.parse(expression.replace("$__rate_interval", "5m"))):
        if name not in known:
            found.append(f"{name} is no series")
        elif (known[name] == "counter") != (function in OF_COUNTERS):
            found.append(f"{name} is a {known[name]}, in {function or 'no function'}")
        else:
            found += [f"{name} has no label {label}" for label in sorted(matched - labels_of(name))]
    return found


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels with queries."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_boards_are_those_of_the_script() -> None:
    """A metric that was added or changed is on its board: run deploy/observe/make_boards.py again."""
    assert {path.name: path.read_text() for path in BOARDS} == script().boards()


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_can_be_imported_and_read(path: Path) -> None:
    """Fixed uid, stable ids, a data source to choose; each panel has unit and description, and asks for what exists."""
    board = json.loads(path.read_text())
    assert board["uid"] == path.stem
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "flow"]
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(places) == len(set(places))
    for panel in panels(board):
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "$datasource"
            assert faults(target["expr"]) == []


def test_every_metric_is_on_a_board() -> None:
    """Nobody forgets one that is added later."""
    shown = {
        name
        for path in BOARDS
        for panel in panels(json.loads(path.read_text()))
        for target in panel["targets"]
        for name, *_ in used(promql_parser.parse(target["expr"].replace("$__rate_interval", "5m")))
    }
    missing = {name for name in CATALOGUE if not shown & {series(name), f"{series(name)}_bucket"}}
    assert missing == set()


def test_a_wrong_expression_is_found() -> None:
    """The checks above can fail: a rate of a gauge, a counter as it is, a foreign name, a foreign label."""
    assert faults("sum(rate(choreo_runs[5m]))") == ["choreo_runs is a gauge, in rate"]
    assert faults("sum(choreo_jobs_total)") == ["choreo_jobs_total is a counter, in no function"]
    assert faults("max(choreo_nothing)") == ["choreo_nothing is no series"]
    assert faults('max(choreo_runs{key="a"})') == ["choreo_runs has no label key"]
    with pytest.raises(ValueError, match="unclosed"):
        faults("max by (")
