"""`choreo new`: create a project with a flow, its services, its contract and its tests, which runs at once.

Its files are in `templates/`: those of one template, and those of both; `$name` is filled in. Code there ends in
`.txt`, so that no tool takes it for a part of choreo.
"""

from __future__ import annotations

import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from string import Template as Text
from typing import Annotated

import typer

from choreo.cli.output import Format, Output, document, flush, write
from choreo.core.errors import ConflictError, SettingsError, StorageError
from choreo.core.wording import counted

TEMPLATES = Path(__file__).parent / "templates"
BOTH = "both"


class Template(StrEnum):
    """The templates of a new project."""

    ORDER = "order"
    EMPTY = "empty"


_ABOUT = {
    Template.ORDER: "two services, a compensation, and tests that show how it is undone",
    Template.EMPTY: "one service with one step, to be renamed",
}

# The syntax that a package index accepts, in one spelling; 64 is far above any name and fits every file system.
_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z")
# A dotfile in the template would act on choreo's own repository.
_RENAMED = {"gitignore": ".gitignore"}


def new(
    name: Annotated[str, typer.Argument(help="The project's name, and its folder here.")],
    *,
    template: Annotated[
        Template | None,
        typer.Option("--template", help=f"order: {_ABOUT[Template.ORDER]}; empty: {_ABOUT[Template.EMPTY]}."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Create a project that runs at once: a flow, its services, schemas and tests.

    Without --template asks on a terminal which one, and elsewhere takes the order.
    """
    _require_name(name)
    folder = Path(name)
    _require_free(folder)
    template = template or (_asked() if output is Format.TABLE and sys.stdin.isatty() else Template.ORDER)
    try:
        files = sorted(
            _copy(root / inside, folder / inside, name)
            for root in (TEMPLATES / BOTH, TEMPLATES / template)
            for inside in _sources(root)
        )
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or folder),
            remedy="Free disk space, or choose another folder.",
        ) from error
    if output is Format.JSON:
        document({"name": name, "folder": str(folder), "template": template, "files": [str(path) for path in files]})
        return
    write(f"made {folder}/ with {counted(len(files), 'file')}")
    write("")
    for step in (f"cd {folder}", "choreo check", "python -m pytest", "choreo dev --reload"):
        write(f"  {step}")
    write("")
    write("README.md describes the next steps.")


def _asked() -> Template:
    for template in Template:
        write(f"  {template:<8}{_ABOUT[template]}")
    flush()
    answer: Template = typer.prompt("Template", default=Template.ORDER.value, value_proc=_template)
    return answer


def _template(text: str) -> Template:
    """Return the template of that name; raises BadParameter, which asks again."""
    try:
        return Template(text.strip().lower())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no template: {', '.join(Template)}") from error


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


def _sources(root: Path) -> list[Path]:
    """Return the files below a folder, relative to it."""
    return [path.relative_to(root) for path in root.rglob("*") if path.is_file()]


def _copy(source: Path, target: Path, name: str) -> Path:
    """Copy one file with the name filled in; return its path."""
    target = target.with_name(_RENAMED.get(target.name, target.name.removesuffix(".txt")))
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    target.write_text(Text(text).safe_substitute(name=name), encoding="utf-8")
    shutil.copymode(source, target)
    return target
