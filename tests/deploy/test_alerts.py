"""The alerts of deploy/observe: they name metrics that exist, and each has a page with commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from choreo.app.metrics import CATALOGUE, PREFIX, Metric, series
from choreo.cli.program import COMMANDS

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy" / "observe"
RUNBOOKS = ROOT / "docs" / "runbooks"

RULES: list[dict[str, Any]] = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES]
OF_PROMETHEUS = {"instance", "job"}
"""Labels that each scrape adds."""
_SELECTOR = re.compile(rf"{PREFIX}(\w+)(?:\{{([^}}]*)\}})?")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_USED = re.compile(r"\$labels\.(\w+)")


def exported() -> dict[str, Metric]:
    """Return the catalogue by the names of its series in Prometheus, without the prefix."""
    found: dict[str, Metric] = {}
    for name, metric in CATALOGUE.items():
        if metric.kind == "histogram":
            found |= {f"{name}{suffix}": metric for suffix in ("_bucket", "_count", "_sum")}
        else:
            found[series(name).removeprefix(PREFIX)] = metric
    return found


def faults(expression: str) -> Iterator[str]:
    """Yield each series and each label of an expression that the catalogue does not have."""
    known, grouped = exported(), set(OF_PROMETHEUS)
    for name, matchers in _SELECTOR.findall(expression):
        if name not in known:
            yield f"{name} is no series"
            continue
        labels = {*known[name].labels, *OF_PROMETHEUS, *(["le"] if name.endswith("_bucket") else [])}
        grouped |= labels
        yield from (
            f"{name} has no label {label}" for label in re.findall(r"(\w+)\s*[=!]", matchers) if label not in labels
        )
    for names in _GROUPING.findall(expression):
        yield from (f"nothing has the label {name}" for name in re.split(r",\s*", names) if name not in grouped)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_reads_metrics_that_exist(rule: dict[str, Any]) -> None:
    """A name or label that nothing exports would never fire."""
    assert list(faults(rule["expr"])) == []
    kept = {label for names in _GROUPING.findall(rule["expr"]) for label in re.split(r",\s*", names)}
    assert set(_USED.findall(str(rule["annotations"]))) <= kept


def test_a_wrong_expression_is_found() -> None:
    """The check above can fail: a counter without its suffix, a foreign label, a foreign grouping."""
    assert list(faults("sum by (flow) (choreo_attempts)")) == ["attempts is no series", "nothing has the label flow"]
    assert list(faults('choreo_runs{step="a"}')) == ["runs has no label step"]
    assert list(faults("max by (key) (choreo_runs)")) == ["nothing has the label key"]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """It has a severity, a wait, a command of choreo that its page begins with, and the page's address."""
    name, notes = rule["alert"], rule["annotations"]
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert notes["runbook_url"].endswith(f"/runbooks/{name}.html")
    program, command, *_ = notes["command"].split()
    assert program == "choreo"
    assert command in {each for section in COMMANDS.values() for each in section}
    first = notes["command"].replace("{{ $labels.flow }}", "FLOW").replace("{{ $labels.group }}", "SERVICE")
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert f"First: `{first}`" in page


def test_each_page_has_its_alert() -> None:
    """No page outlives its alert; the index and the site list each."""
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"index", "causes"}
    assert pages == set(NAMES)
    assert len(NAMES) == len(set(NAMES))
    index, site = (RUNBOOKS / "index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    assert [name for name in NAMES if f"({name}.md)" not in index or f"runbooks/{name}.md" not in site] == []


def test_each_alert_has_a_firing_and_a_quiet_case() -> None:
    """Only the alert that always fires has no quiet case."""
    cases = yaml.safe_load((OBSERVE / "alerts_test.yml").read_text())["tests"]
    tried = {(each["alertname"], bool(each["exp_alerts"])) for case in cases for each in case["alert_rule_test"]}
    assert tried == {(name, fires) for name in NAMES for fires in (True, False)} - {("DeadMan", False)}


PROMTOOL = shutil.which("promtool") or ""


@pytest.mark.skipif(not shutil.which("amtool"), reason="no amtool (Debian: prometheus-alertmanager)")
def test_alertmanagers_own_tool_takes_its_configuration() -> None:
    """A page and a ticket have a route."""
    amtool = shutil.which("amtool") or ""
    call = (amtool, "config", "routes", "test", "--config.file=alertmanager.yml", "severity=page", "alertname=RunStuck")
    for command in ((amtool, "check-config", "alertmanager.yml"), call):
        ran = subprocess.run(command, cwd=OBSERVE, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not PROMTOOL, reason="no promtool (Debian: prometheus)")
@pytest.mark.parametrize("call", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_prometheus_own_tool_agrees(call: tuple[str, ...]) -> None:
    """Every case fires, or stays quiet, in Prometheus' own engine."""
    ran = subprocess.run([PROMTOOL, *call], cwd=OBSERVE, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
