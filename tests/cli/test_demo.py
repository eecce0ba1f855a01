"""`choreo demo` as a user runs it: every kind of order, each ending as it must, and an audit that can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from choreo.cli.demo.play import load_demo
from choreo.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_order_ends_as_it_must_and_the_books_add_up(checkout: Path) -> None:
    """A hundred orders hold every kind; the JSON has the figures that were promised."""
    ran = _demo(checkout, "--orders", "100", "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr  # its handlers fail on purpose
    result = json.loads(ran.stdout)
    assert list(result) == [
        "orders", "completed", "compensated", "stuck", "dead_letters", "audit_ok", "orders_per_s", "p50_ms", "p99_ms",
    ]  # fmt: skip
    assert (result["orders"], result["completed"], result["compensated"], result["stuck"]) == (100, 69, 31, 0)
    assert result["dead_letters"] == 2
    assert result["audit_ok"] is True


def test_books_that_do_not_add_up_fail_the_demo(checkout: Path) -> None:
    """A bank that charges declined cards is found out: exit code 1, and a sentence with the fault."""
    bank = checkout / "services" / "gateways" / "bank.py"
    text = bank.read_text()
    spoiled = text.replace('"declined" if "declined" in marked else "charged"', '"charged"')
    assert spoiled != text
    bank.write_text(spoiled)
    ran = _demo(checkout, "--orders", "100", "-o", "json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["audit_ok"] is False
    assert "card declined" in ran.stderr


def test_a_project_without_a_demo_is_told_how_to_have_one(tmp_path: Path) -> None:
    """Outside a checkout the message names the remedy."""
    ran = _demo(tmp_path)
    assert ran.returncode == 2
    assert "this project has no demo" in ran.stderr
    assert 'demo = "module:name"' in ran.stderr


def test_a_demo_is_found_in_a_folder_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the container's image has it: the project lies beside, and only choreo is installed."""
    (tmp_path / "a_shops_demo.py").write_text("demo = 'this one'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_demo(Settings(demo="a_shops_demo:demo")) == "this one"


def _demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "choreo", "demo", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
