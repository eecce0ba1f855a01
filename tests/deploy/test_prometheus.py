"""Debian's Prometheus scrapes real processes: an alert fires while no worker runs, and its command ends it.

The rules are those of deploy/observe, without their waits.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import httpx
import pytest

from choreo.app.metrics import CATALOGUE, Metrics, series
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop
from tests.support.patience import PATIENCE_S

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
DESK = Path(__file__).parents[1] / "cli" / "desk"
CHOREO = (sys.executable, "-m", "choreo")
PAUSE_S = 0.2

pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="no Prometheus (Debian: prometheus)")


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def until(answer: Callable[[], Any]) -> Any:
    """Return the first truthy answer; a server that does not listen yet has none."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        try:
            if found := answer():
                return found
        except URLError:
            pass
        threading.Event().wait(PAUSE_S)
    raise TimeoutError


def ended(process: subprocess.Popen[Any]) -> None:
    """Stop a process in order."""
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)


@pytest.fixture
def rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a REST view of the small project, as the current folder, with a ticket that waits."""
    folder = shutil.copytree(DESK, tmp_path / "desk", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    subprocess.run((*CHOREO, "publish", "desk", "TicketOpened", "--key", "t-1"), check=True, capture_output=True)
    port = free_port()
    process = subprocess.Popen((*CHOREO, "run", "rest"), env=os.environ | {"CHOREO_PORT": str(port)})
    yield f"127.0.0.1:{port}"
    ended(process)


@pytest.fixture
def alerts(rest: str, tmp_path: Path) -> Iterator[Callable[[], list[Any]]]:
    """Yield a function that returns the alerts of a Prometheus that scrapes the REST view each second."""
    rules = re.sub(r"^( +for:) \w+$", r"\1 0s", (OBSERVE / "alerts.yml").read_text(), flags=re.MULTILINE)
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "prometheus.yml").write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs: [{{job_name: rest, static_configs: [{{targets: ["{rest}"]}}]}}]
"""
    )
    address = f"127.0.0.1:{free_port()}"
    command = (
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    )
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def firing() -> list[Any]:
        with urlopen(f"http://{address}/api/v1/alerts") as answer:
            return [alert for alert in json.load(answer)["data"]["alerts"] if alert["state"] == "firing"]

    yield firing
    ended(process)


def test_an_alert_fires_and_its_command_ends_it(alerts: Callable[[], list[Any]]) -> None:
    """No process of the service runs: NoWorker names the command. Once that runs, the alert is gone."""

    def of_seats() -> list[Any]:
        found = [alert for alert in alerts() if alert["labels"]["alertname"] == "NoWorker"]
        return [alert for alert in found if alert["labels"]["group"] == "seats"]

    (alert,) = until(of_seats)
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["command"] == "choreo run seats"
    _, *arguments = shlex.split(alert["annotations"]["command"])
    worker = subprocess.Popen((*CHOREO, *arguments))
    until(lambda: not of_seats())
    always = {each["labels"]["alertname"] for each in alerts()}
    assert "DeadMan" in always
    ended(worker)


def test_promtool_finds_nothing_wrong_with_the_metrics(rest: str) -> None:
    """Names, units, types and help texts are as Prometheus' own linter wants them."""

    def text() -> str:
        with urlopen(f"http://{rest}/metrics") as answer:
            return str(answer.read().decode())

    assert lint(until(text)) == ""


async def test_promtool_finds_nothing_wrong_with_any_metric_of_the_catalogue() -> None:
    """Each of them, as a process shows it that has them all."""
    shop = await Shop().open()
    metrics = Metrics()
    for name, metric in CATALOGUE.items():
        labels = dict.fromkeys(metric.labels, "a")
        if metric.kind == "histogram":
            metrics.observe(name, [1.0], **labels)
        else:
            metrics.add(name, 1, **labels)
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, metrics=metrics))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        shown = (await client.get("/metrics")).text
    assert {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")} >= {*map(series, CATALOGUE)}
    assert lint(shown) == ""


def lint(metrics: str) -> str:
    """Return the complaints of Prometheus' own linter."""
    promtool = shutil.which("promtool") or ""
    ran = subprocess.run((promtool, "check", "metrics"), input=metrics, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr
