"""A copy of the package with a planted fault: a patch of tests/planted, applied where nothing else sees it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "planted"
GIT = shutil.which("git") or "git"


def patches() -> list[Path]:
    """Return every planted fault."""
    return sorted(PLANTED.glob("*.diff"))


def files_of(patch: Path) -> list[str]:
    """Return the files that a patch changes."""
    return re.findall(r"^\+\+\+ b/(\S+)", patch.read_text(), re.MULTILINE)


def breaks(patch: Path) -> str:
    """Return the sentence that says what a patch breaks."""
    found = re.match(rf"name: {patch.stem}\nbreaks: (.+)\n", patch.read_text())
    assert found, f"{patch.name} has no header"
    return found[1]


def planted(patch: Path, folder: Path) -> Path:
    """Return a folder with a copy of the package that has the fault; unchanged files are links."""
    shutil.copytree(ROOT / "choreo", folder / "choreo", copy_function=os.symlink)
    for name in files_of(patch):
        (folder / name).unlink()
        shutil.copy(ROOT / name, folder / name)
    applied = subprocess.run(
        [GIT, "apply", "--whitespace=nowarn", patch],
        cwd=folder,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, f"{patch.name} does not fit the code any more: {applied.stderr}"
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that takes the package from this folder, and all else from the checkout."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


def answer_in(folder: Path, *words: str) -> list[Any]:
    """Return what Python prints as JSON with these words, without the first entry: where it took the package from."""
    command = [sys.executable, *words]
    answer = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    place, *found = json.loads(answer.stdout)
    assert Path(place).is_relative_to(folder)
    return found
