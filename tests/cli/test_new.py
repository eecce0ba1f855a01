"""`choreo new`: its projects are installed, checked, tested and run, in an environment with only the wheel."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import Environment

PLACED = ("publish", "order", "OrderPlaced", "--field", "article=lamp", "--field", "quantity=1")


class Shop:
    """A new project, and programs called in it."""

    def __init__(self, folder: Path, installed: Environment) -> None:
        self.folder = folder
        self.installed = installed
        self._python = str(installed.python)
        self._environment = {**installed.variables(folder), "CHOREO_PORT": str(_free_port())}

    def __call__(self, *arguments: str, module: str = "choreo") -> subprocess.CompletedProcess[str]:
        """Call the program and answer what it said."""
        called = [self._python, "-m", module, *arguments]
        return subprocess.run(
            called, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `choreo` and let it run."""
        called = [self._python, "-m", "choreo", *arguments]
        return subprocess.Popen(
            called, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ended(self, key: str) -> dict[str, Any]:
        """The instance, when it has ended."""
        watched = self("show", key, "--watch")
        assert watched.returncode == 0, watched.stderr
        instance: dict[str, Any] = json.loads(self("show", key, "-o", "json").stdout)
        return instance


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, installed: Environment) -> Shop:
    """A project as `choreo new shop` makes it, installed as its README says; the wheel stands for the package index."""
    parent = tmp_path_factory.mktemp("projects")
    made = Shop(parent, installed)("new", "shop")
    assert made.returncode == 0, made.stderr
    links = ("--find-links", str(installed.wheel.parent))
    installed.install("--no-build-isolation", *links, "--editable", f"{parent / 'shop'}[dev]")
    return Shop(parent / "shop", installed)


@pytest.fixture
def running(shop: Shop) -> Iterator[Shop]:
    """The project with everything running, until the test is over."""
    process = shop.start("dev")
    try:
        assert process.stdout
        assert any("Ctrl-C stops" in line for line in process.stdout)
        yield shop
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    assert process.returncode == 0, told


def test_its_own_tests_pass(shop: Shop) -> None:
    """With the interpreter that made it."""
    tested = shop("-q", "-p", "no:cacheprovider", module="pytest")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "8 passed" in tested.stdout


def test_it_passes_every_check(shop: Shop) -> None:
    """Flow, topics and frozen schemas fit, with no warning."""
    checked = shop("check", "--strict")
    assert checked.returncode == 0, checked.stdout
    assert "flow order: 0 errors, 0 warnings" in checked.stdout


def test_its_flow_runs(running: Shop) -> None:
    """One order completes; the other cannot be paid, and its articles go back."""
    for key, amount in (("o-1", "49.90"), ("o-2", "4990")):
        placed = running(*PLACED, "--field", f"order_id={key}", "--field", f"amount={amount}")
        assert placed.returncode == 0, placed.stderr
    assert running.ended("o-1")["status"] == "completed"
    undone = running.ended("o-2")
    assert undone["status"] == "compensated"
    assert [(effect["step"], effect["state"]) for effect in undone["ledger"]] == [("stock.reserve", "undone")]


def test_a_second_one_on_the_same_port_says_what_to_do(running: Shop) -> None:
    """It is refused before anything of it runs."""
    second = running("dev")
    assert second.returncode == 2
    assert second.stdout == ""
    assert "the port is in use" in second.stderr
    assert "CHOREO_PORT" in second.stderr


def test_its_readme_commands_are_the_ones_there_are(shop: Shop) -> None:
    """Each line that begins with choreo is a command that has help."""
    lines = [line for line in (shop.folder / "README.md").read_text().splitlines() if line.startswith("choreo ")]
    assert len(lines) >= 4
    for line in lines:
        assert shop(line.split()[1], "--help").returncode == 0, line


def test_the_folder_may_be_there_if_it_is_empty(shop: Shop) -> None:
    """As after `mkdir` and `git init` elsewhere; the files are listed for programs."""
    parent = Shop(shop.folder.parent, shop.installed)
    (shop.folder.parent / "empty").mkdir()
    made = json.loads(parent("new", "empty", "-o", "json").stdout)
    assert "empty/services/order_flow.py" in made["files"]
    assert "empty/.gitignore" in made["files"]
    assert 'name = "empty"' in (shop.folder.parent / "empty" / "pyproject.toml").read_text()


def test_nothing_is_left_to_fill_in(shop: Shop) -> None:
    """Every placeholder has its value."""
    texts = {path: path.read_text() for path in shop.folder.rglob("*") if path.is_file() and path.suffix != ".db"}
    assert [str(path) for path, text in texts.items() if "$name" in text] == []
