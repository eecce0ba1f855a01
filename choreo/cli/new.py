"""`choreo new`: a project with two services, a flow, its contract, its topic and its tests, that runs at once.

What it is made of stands in `templates/project/` as it will stand there; `$name` is filled in.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from choreo.cli.output import Format, Output, document, write
from choreo.core.errors import ConflictError, SettingsError, StorageError

TEMPLATE = Path(__file__).parent / "templates" / "project"

# As a package index takes it, in one spelling; 64 is far above any name and fits every file system.
_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z")
# A dotfile in the template would act on the repository it stands in.
_RENAMED = {"gitignore": ".gitignore"}
# pip compiles what looks like a module when it installs choreo.
_LEFT_OUT = frozenset({"__pycache__"})


def new(
    name: Annotated[str, typer.Argument(help="The project's name, and its folder here.")],
    *,
    output: Output = Format.TABLE,
) -> None:
    """Make a project that runs at once: two services, a flow with a compensation, schemas, topic and tests."""
    _require_name(name)
    folder = Path(name)
    _require_free(folder)
    try:
        files = [_copy(source, folder, name) for source in _sources()]
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or folder),
            remedy="Make room, or go elsewhere.",
        ) from error
    if output is Format.JSON:
        document({"name": name, "folder": str(folder), "files": [str(path) for path in files]})
        return
    write(f"made {folder}/ with {len(files)} files")
    write("")
    for step in (f"cd {folder}", "choreo check", "python -m pytest", "choreo dev"):
        write(f"  {step}")


def _require_name(name: str) -> None:
    if not _NAME.match(name) or name == "choreo":
        raise SettingsError(
            f"{name!r} cannot be a project's name",
            where="NAME",
            remedy="Use lower-case letters, digits, - and _, at most 64, beginning with a letter; not choreo itself.",
        )


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(
            "is there already, and not empty", where=str(folder), remedy="Choose another name, or move it away."
        )


def _sources() -> list[Path]:
    found = [path for path in sorted(TEMPLATE.rglob("*")) if path.is_file()]
    return [path for path in found if not _LEFT_OUT & set(path.relative_to(TEMPLATE).parts)]


def _copy(source: Path, folder: Path, name: str) -> Path:
    """Fill one file in; answers where it was written."""
    inside = source.relative_to(TEMPLATE)
    target = folder / inside.with_name(_RENAMED.get(inside.name, inside.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    target.write_text(Template(text).safe_substitute(name=name), encoding="utf-8")
    shutil.copymode(source, target)
    return target
