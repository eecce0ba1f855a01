"""`choreo new`: its projects are installed, checked, tested and run, in an environment with only the wheel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import Environment
from tests.support.kafka import free_ports
from tests.support.reader import Reader, blocks_of

PLACED = ("publish", "order", "OrderPlaced", "--field", "article=lamp", "--field", "quantity=1")


class Shop:
    """A new project, and programs called in it."""

    def __init__(self, folder: Path, installed: Environment) -> None:
        self.folder = folder
        self.installed = installed
        self._python = str(installed.python)
        self._environment = {**installed.variables(folder), "CHOREO_PORT": str(free_ports(1)[0])}

    def __call__(self, *arguments: str, module: str = "choreo") -> subprocess.CompletedProcess[str]:
        """Call the program and return its output."""
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
        """Return the instance, when it has ended."""
        watched = self("show", key, "--watch")
        assert watched.returncode == 0, watched.stderr
        instance: dict[str, Any] = json.loads(self("show", key, "-o", "json").stdout)
        return instance


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, installed: Environment) -> Shop:
    """Return a project of `choreo new shop`, installed as its README says; the wheel stands for the package index."""
    parent = tmp_path_factory.mktemp("projects")
    made = Shop(parent, installed)("new", "shop")
    assert made.returncode == 0, made.stderr
    installed.install("--editable", f"{parent / 'shop'}[dev]")
    return Shop(parent / "shop", installed)


@pytest.fixture
def running(shop: Shop) -> Iterator[Shop]:
    """Yield the project with everything running, until the test is over."""
    process = shop.start("dev")
    try:
        assert process.stdout
        assert any("Ctrl-C stops" in line for line in process.stdout)
        yield shop
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    assert process.returncode == 0, told


def test_it_passes_every_check(shop: Shop) -> None:
    """Flow and frozen schemas fit, with no warning; nobody asks for topics before there is a Kafka."""
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


@pytest.mark.parametrize("template", ["order", "empty"])
def test_what_its_readme_says_works_word_for_word(
    template: str, tmp_path: Path, installed: Environment, newcomer: Reader
) -> None:
    """Installed, checked, tested and run, by the commands that stand there, in both templates."""
    newcomer.types(f"choreo new shop --template {template}")
    newcomer.goes_to("shop")
    blocks = [block.text for block in blocks_of(newcomer.folder / "README.md") if block.language == "sh"]
    for line in (line for text in blocks for line in text.splitlines()):
        if line.startswith("choreo dev"):
            newcomer.starts(line)
        else:
            command, _, comment = line.partition("#")
            printed = newcomer.sees(command, comment.split(":")[0] if "show" in command else "")
    assert ("compensated" if template == "order" else "completed") in printed


def test_a_terminal_is_asked_which_template(tmp_path: Path, installed: Environment) -> None:
    """A word that is none is asked about again; the answer decides."""
    ours, theirs = os.openpty()
    made = subprocess.Popen(
        [installed.bin / "choreo", "new", "asked"],
        cwd=tmp_path,
        env=installed.variables(tmp_path),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.write(ours, b"fulll\nempty\n")
    printed, _ = made.communicate()
    assert made.returncode == 0
    assert b"'fulll' is no template: order, empty" in printed
    assert (tmp_path / "asked" / "services" / "worker.py").exists()


def test_a_template_that_is_none_is_a_usage_error(shop: Shop) -> None:
    """The answer names those there are."""
    refused = Shop(shop.folder.parent, shop.installed)("new", "other", "--template", "full")
    assert refused.returncode == 2
    assert "order" in refused.stderr


def test_a_users_strict_type_checker_passes(shop: Shop) -> None:
    """Mypy --strict finds nothing in the project; the types come from the wheel."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", shop.installed.python, "services", "schemas"],
        cwd=shop.folder,
        env=shop.installed.variables(shop.folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Success: no issues found" in checked.stdout


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
