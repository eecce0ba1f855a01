"""The README's snippets run as they stand, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- snippet: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL))
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = sorted({*re.findall(r"^choreo ([a-z]+)", SHELL, re.MULTILINE), *re.findall(r"`choreo ([a-z]+)", README)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the README's files, as a reader would make it."""
    for name, text in SNIPPETS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_readme_has_a_contract_services_a_flow_and_a_test() -> None:
    """What a reader copies is a whole project."""
    assert set(SNIPPETS) == {"schemas.py", "services.py", "flow.py", "test_flow.py"}


def test_the_snippets_test_passes(project: Path) -> None:
    """The README's own test is run, and passes."""
    ran = _python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_flow.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_the_snippets_flow_is_declared_right(project: Path) -> None:
    """The README's flow has no finding, not even a warning."""
    ran = _python(project, "-c", "from flow import order; print([f.sentence for f in order.findings()])")
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_the_readme_names_exists(command: str) -> None:
    """`choreo COMMAND --help` answers for every command the README shows."""
    ran = _python(ROOT, "-m", "choreo", command, "--help")
    assert ran.returncode == 0, ran.stderr


def test_the_settings_table_names_every_setting() -> None:
    """A setting that is not in the README is not documented; one that is not a setting is a lie."""
    from choreo.settings import Settings

    table = README.split("## Settings")[1].split("##")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == set(Settings.model_fields)


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
