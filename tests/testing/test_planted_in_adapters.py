"""Planted faults of adapters: each is found by a test of a port's conformance suite, or of an adapter.

The same tests pass on the package as it is: they are run where they stand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.faulty_copy import ROOT, environment, patches, planted

FOUND_S = 30
"""In seconds: a fault by which its test would wait for ever is found, too."""
ENDED_S = 120
"""In seconds: such a test may leave a thread by which its process would not end."""
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")
"""The others of the environment take two thirds of the time in which pytest starts."""
_TOOL = re.compile(r"^tools: .*\bsuite \((?P<file>\S+) -k (?P<test>\w+)\)", re.MULTILINE)


class Fault(NamedTuple):
    """A patch, and the test that finds its fault."""

    patch: Path
    file: str
    test: str


def faults() -> list[Fault]:
    """Return the planted faults whose headers name a suite."""
    found = ((patch, _TOOL.search(patch.read_text())) for patch in patches())
    return [Fault(patch, tool["file"], tool["test"]) for patch, tool in found if tool]


FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.patch.stem for fault in FAULTS])
def test_a_suite_finds_a_planted_fault(fault: Fault, tmp_path: Path) -> None:
    """The test fails in the copy, by an assertion or an error of its own."""
    folder = planted(fault.patch, tmp_path)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(f"-p{plugin}" for plugin in PLUGINS),
        f"--timeout={FOUND_S}",
        "-c",
        ROOT / "pyproject.toml",
    ]
    command += ["-o", f"pythonpath={folder} {ROOT}", "--rootdir", ROOT, ROOT / fault.file, "-k", fault.test]
    env = {**environment(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    answer = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=ENDED_S)
    if re.search(r"^\d+ skipped|^SKIPPED ", answer.stdout, re.MULTILINE):
        pytest.skip(f"{fault.file} needs something that is not there: it is skipped by itself")
    assert answer.returncode == 1, f"{fault.test} does not fail: {answer.stdout}{answer.stderr}"
    assert re.search(rf"^FAILED .*{fault.test}", answer.stdout, re.MULTILINE)


def test_there_are_faults_of_adapters() -> None:
    """A folder that was moved would leave a test without a case."""
    assert len(FAULTS) >= 11
