"""An environment as a user has it: nothing but the wheel of this checkout and the packages that it asks for.

The wheel is built once. Its requirements are linked from the environment of the tests, as far as the metadata names
them and no further: no index is asked, and a requirement that the wheel forgets to name is missing.
"""

import os
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DISTRIBUTION = "choreo-kafka"
_PATIENCE_S = 240


def uv(*arguments: str, folder: Path = ROOT) -> str:
    """Run uv without an index; answer its output."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments, "--offline", "--no-config"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build_wheel(folder: Path) -> Path:
    """Build the wheel as a release would, with the build backend of the lock."""
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with the wheel in it."""

    def __init__(self, folder: Path, wheel: Path, *, extras: tuple[str, ...] = (), tools: tuple[str, ...] = ()) -> None:
        """Make it; `tools` are its user's other packages, such as pytest."""
        self.folder = folder
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.wheel = wheel
        uv("venv", "--quiet", "--python", sys.executable, str(folder))
        (self._packages,) = folder.glob("lib/python*/site-packages")
        self.install(str(wheel), "--no-deps")
        (own,) = metadata.distributions(name=DISTRIBUTION, path=[str(self._packages)])
        wanted = [*_required(own, extras), *((tool, ()) for tool in tools)]
        for name in _closure(wanted):
            self._link(metadata.distribution(name))

    def install(self, *arguments: str) -> None:
        """Install with uv, without an index."""
        uv(*self._installing, *arguments)

    @property
    def _installing(self) -> tuple[str, ...]:
        links = ("--find-links", str(self.wheel.parent))
        return ("pip", "install", "--quiet", "--python", str(self.python), "--no-index", "--no-build-isolation", *links)

    def pip_without_index(self, program: Path) -> None:
        """Write a `pip` that installs into it; the wheel stands for the package index."""
        call = shlex.join([sys.executable, "-m", "uv", *self._installing, "--offline", "--no-config"])
        program.write_text(f'#!/bin/sh\ntest "$1" = install && shift && exec {call} "$@"\n')
        program.chmod(0o755)

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the environment variables of a shell in which it is active."""
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "HOME": str(folder),
            "VIRTUAL_ENV": str(self.folder),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),
        }

    def run(self, *command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, `python` or `choreo`, in a folder."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder,
            env={**self.variables(folder), **more},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )

    def _link(self, found: metadata.Distribution) -> None:
        """Give it a distribution of the tests' environment, file by file; a hard link costs neither time nor room."""
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            target = self._packages / str(file)
            if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source, target)
        for program in found.entry_points.select(group="console_scripts"):
            script = self.bin / program.name
            code = f"import sys\nfrom {program.module} import {program.attr}\nsys.exit({program.attr}())\n"
            script.write_text(f"#!{self.python}\n{code}")
            script.chmod(0o755)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _required(found: metadata.Distribution, extras: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the requirements of a distribution here, each with its extras."""
    wanted = []
    for line in found.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            wanted.append((requirement.name, tuple(requirement.extras)))
    return wanted


def _closure(wanted: list[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return the names of all that these need, themselves included."""
    seen: dict[str, set[str]] = {}
    while wanted:
        name, extras = wanted.pop()
        known = seen.setdefault(canonicalize_name(name), {"*"})
        if not {"", *extras} <= known:
            known |= {"", *extras}
            wanted += _required(metadata.distribution(name), extras)
    return sorted(seen)
