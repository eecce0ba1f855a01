"""`choreo check -o sarif`: valid by the model that is generated from the official schema of SARIF 2.1.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from choreo.cli.check import sarif
from choreo.cli.check.found import Found
from choreo.cli.check.suppressions import Accepted
from choreo.core.checks.codes import CODES

FOUND = Found("C301", "error", "flow", "flow order, step payment.charge", "has no way back", "Add it.", "a b.py", 7)
WARNED = Found("C205", "warning", "flow", "flow order, event Told", "ends there", "Name it.")
ELSEWHERE = Found("C704", "error", "schemas", "x.avsc", "cannot be read", "Restore it.", str(Path.cwd() / "x.avsc"))


def test_the_log_is_valid_and_has_every_rule() -> None:
    """Findings with and without a place, and one that is suppressed."""
    log = sarif.log([FOUND, WARNED, ELSEWHERE], [Accepted(WARNED, "another tool reports it")], "0.1.0")
    (run,) = Sarif.model_validate(log).runs
    rules = run.tool.driver.rules
    assert rules is not None
    assert [rule.id for rule in rules] == list(CODES)
    assert {rule.defaultConfiguration.level.value for rule in rules} == {"error", "warning"}


def test_a_result_has_its_line_its_rule_and_its_suppression() -> None:
    """As code hosts read it: a path relative to the project, and the line of the declaration."""
    (run,) = sarif.log([FOUND, ELSEWHERE], [Accepted(WARNED, "another tool reports it")], "0.1.0")["runs"]
    first, other, accepted = run["results"]
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == first["ruleId"] == "C301"
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b.py", "uriBaseId": "PROJECT"},
        "region": {"startLine": 7},
    }
    assert other["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")
    assert accepted["suppressions"] == [{"kind": "external", "justification": "another tool reports it"}]
    assert "suppressions" not in first


def test_the_model_refuses_a_log_that_is_wrong() -> None:
    """A check that cannot fail is none."""
    log = sarif.log([FOUND], [], "0.1.0")
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(ValidationError):
        Sarif.model_validate(log)


def test_the_command_prints_it(desk: Any) -> None:
    """With the exit code of the other forms."""
    answer = desk("check", "-o", "sarif")
    assert answer.code == 1
    results = answer.json["runs"][0]["results"]
    assert {each["ruleId"] for each in results} == {"C701"}
    Sarif.model_validate(answer.json)
