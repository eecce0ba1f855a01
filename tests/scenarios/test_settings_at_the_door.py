"""Wrong settings, flows and files: each is refused at start with the message a user sees, through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Variables of the environment, and the lines that the user reads on standard error.
ENVIRONMENT: dict[str, tuple[dict[str, str], list[str]]] = {
    "a port beyond the last": ({"CHOREO_PORT": "70000"}, ["setting port", "70000", "CHOREO_PORT"]),
    "a port that is no number": ({"CHOREO_PORT": "http"}, ["setting port", "'http'"]),
    "a scale of zero": ({"CHOREO_TIME_SCALE": "0"}, ["setting time_scale", "0.001"]),
    "a scale that is no number": ({"CHOREO_TIME_SCALE": "fast"}, ["setting time_scale", "'fast'"]),
    "an unknown synchronous": ({"CHOREO_SYNCHRONOUS": "OFF"}, ["setting synchronous", "'FULL' or 'NORMAL'"]),
    "a lease too short to renew": ({"CHOREO_LEASE_S": "0.01"}, ["setting lease_s", "0.2"]),
    "no partitions": ({"CHOREO_PARTITIONS": "0"}, ["setting partitions", "1"]),
    "no concurrency": ({"CHOREO_CONCURRENCY": "0"}, ["setting concurrency", "1"]),
    "a negative stop": ({"CHOREO_STOP_S": "-1"}, ["setting stop_s", "0"]),
    "no flow": ({"CHOREO_FLOWS": ""}, ["no flow is named", "choreo new"]),
    "a flow without a name": ({"CHOREO_FLOWS": "services.order_flow"}, ["it names no flow", "module:name"]),
    "a flow in no module": ({"CHOREO_FLOWS": "nowhere:order"}, ["cannot be imported", "nowhere"]),
    "a flow that is not there": ({"CHOREO_FLOWS": "services.order_flow:odder"}, ["has no 'odder'"]),
    "a flow that is none": ({"CHOREO_FLOWS": "services.payment:payment"}, ["it is a Service, not a Flow"]),
    "the same flow twice": (
        {"CHOREO_FLOWS": "services.order_flow:order,services.order_flow:order"},
        ["two flows are called 'order'"],
    ),
    "a database that is a folder": ({"CHOREO_DATABASE": "."}, ["."]),
    "a database that is no database": ({"CHOREO_DATABASE": "pyproject.toml"}, ["pyproject.toml"]),
    "a database in a file": ({"CHOREO_DATABASE": "pyproject.toml/choreo.db"}, ["pyproject.toml"]),
}

# Content of the project's files, and the lines that the user reads.
FILES: dict[str, tuple[dict[str, str], list[str]]] = {
    "an unknown setting": ({"pyproject.toml": '[tool.choreo]\nflow = "a:b"\n'}, ["setting flow", "Known settings"]),
    "a pyproject.toml that is no TOML": ({"pyproject.toml": "[tool.choreo\n"}, ["pyproject.toml"]),
    "a flow whose module is broken": (
        {"pyproject.toml": '[tool.choreo]\nflows = ["broken:flow"]\n', "broken.py": "import nothing_of_the_kind\n"},
        ["broken:flow", "nothing_of_the_kind"],
    ),
    "a topic without a key": ({"topics/order.yaml": "name: order\npartitions: 8\n"}, ["topics/order.yaml", "key"]),
    "a topic that is no YAML": ({"topics/order.yaml": "name: [\n"}, ["topics/order.yaml"]),
    "a topic with no partitions": (
        {"topics/order.yaml": "name: o\nkey: k\npartitions: 0\nowner: x\nevents: [A]\ndead_letters: {name: d}\n"},
        ["topics/order.yaml", "partitions"],
    ),
    "a frozen schema that is no JSON": ({"schemas/OrderPlaced.1.avsc": "{"}, ["OrderPlaced.1.avsc"]),
}


@pytest.mark.parametrize("mistake", ENVIRONMENT)
def test_a_wrong_environment_is_refused_with_its_remedy(mistake: str, tmp_path: Path) -> None:
    """`choreo list` names the mistake and its place, without a traceback, and makes nothing."""
    environment, published = ENVIRONMENT[mistake]
    (tmp_path / "pyproject.toml").write_text('[tool.choreo]\nflows = ["services.order_flow:order"]\n')
    _refused(tmp_path, environment, published)


@pytest.mark.parametrize("mistake", FILES)
def test_a_wrong_file_is_refused_with_its_remedy(mistake: str, tmp_path: Path) -> None:
    """The message names the file and the mistake in it."""
    files, published = FILES[mistake]
    files = {"pyproject.toml": '[tool.choreo]\nflows = ["services.order_flow:order"]\n'} | files
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    _refused(tmp_path, {}, published)


def test_the_rest_view_is_not_opened_to_other_machines_by_accident(tmp_path: Path) -> None:
    """It has no authentication: an address that others reach is refused unless a setting says that it is meant."""
    (tmp_path / "pyproject.toml").write_text('[tool.choreo]\nflows = ["services.order_flow:order"]\n')
    open_to_all = {"CHOREO_HOST": "0.0.0.0", "CHOREO_PORT": "0"}  # noqa: S104 - is refused
    published = ["REST view, setting host", "CHOREO_HOST=127.0.0.1", "CHOREO_ALLOW_REMOTE=true", "CHOREO_ALLOWED_HOSTS"]
    _refused(tmp_path, open_to_all, published, "run", "rest")


def _refused(folder: Path, environment: dict[str, str], published: list[str], *command: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "choreo", *(command or ("publish", "order", "OrderPlaced", "--json", "{}"))],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode in (1, 2, 3), ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: "), ran.stderr
    assert "Traceback" not in ran.stderr
    for words in published:
        assert words in ran.stderr
