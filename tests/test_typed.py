"""The types of the wheel, as a user's type checker sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import choreo
import choreo.testing
from tests.support.installed import Environment

COMPLETE = 0.95


@pytest.fixture(scope="module")
def report(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return pyright's report on the installed package."""
    folder = tmp_path_factory.mktemp("typed")
    variables = installed.variables(folder)
    program = Path(sys.executable).with_name("basedpyright")  # its package brings its own Node
    checked = subprocess.run(
        [program, "--verifytypes", "choreo", "--outputjson"],
        cwd=folder,
        env={**variables, "PATH": f"{variables['PATH']}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(checked.stdout)["typeCompleteness"]
    assert found["pyTypedPath"].endswith("choreo/py.typed")
    return found


def test_nearly_every_exported_symbol_has_a_known_type(report: dict[str, Any]) -> None:
    """Also those that nobody is meant to use; the rest come from client libraries without types."""
    assert sum(report["exportedSymbolCounts"].values()) > 1_000
    assert report["completenessScore"] >= COMPLETE


def test_every_public_name_has_a_known_type(report: dict[str, Any]) -> None:
    """Each with all its members; events derive from pydantic's model, and its metaclass has gaps of its own."""
    public = {f"{module.__name__}.{name}" for module in (choreo, choreo.testing) for name in module.__all__}
    seen = {symbol["name"] for symbol in report["symbols"] if symbol["isTypeKnown"]}
    assert public - seen <= {"choreo.Event", "choreo.Part", "choreo.ChildResult"}
