"""`choreo check`: find the faults of a project before it runs: in its flows, topics and schemas."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from choreo import settings
from choreo.cli.check import explained, project, sarif, suppressions
from choreo.cli.check.found import Found
from choreo.cli.check.suppressions import Accepted
from choreo.cli.failures import PROBLEM
from choreo.cli.output import document, plain, table, write
from choreo.core.checks.codes import CODES
from choreo.core.errors import DISTRIBUTION
from choreo.core.wording import counted


class Form(StrEnum):
    """The forms of the answer."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


class Report(msgspec.Struct, frozen=True):
    """The flows that were checked, the findings, and the warnings that are suppressed."""

    ok: bool
    flows: list[str]
    findings: list[Found]
    suppressed: list[Accepted] = []


class Explanation(msgspec.Struct, frozen=True):
    """The explanation of a code."""

    code: str
    level: str
    title: str
    text: str


Files = Annotated[list[Path] | None, typer.Argument(help="Exported flows (JSON) to check in place of the project.")]


def check(
    files: Files = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
    explain: Annotated[str, typer.Option("--explain", help="Explain this code, such as C301.")] = "",
    output: Annotated[
        Form, typer.Option("--output", "-o", help="A table for people, JSON, or SARIF 2.1.0.")
    ] = Form.TABLE,
) -> None:
    """Check flows, topics and schemas: exit code 0 if all is well, 1 with errors, 2 if the project cannot be read.

    Each flow is checked whole, and each event class must fit its frozen versions. A project that names brokers, or has
    a folder of topics, must have a topic for each event. A flow with frozen versions must be frozen as it is. Each
    finding has a code; a warning can be suppressed, with a reason, in [tool.choreo.check] of pyproject.toml.
    """
    if explain:
        _explain(explain, output)
        return
    config = settings.load()
    names, every = project.of_files(files) if files else project.of_project(config)
    found, accepted = suppressions.applied(config.check, every, whole=not files)
    found = sorted(found, key=lambda each: each.level != "error")
    failed = any(strict or each.level == "error" for each in found)
    if output is Form.JSON:
        document(Report(ok=not failed, flows=names, findings=found, suppressed=accepted))
    elif output is Form.SARIF:
        document(sarif.log(found, accepted, _version()))
    else:
        _print(names, found, len(accepted))
    if failed:
        raise typer.Exit(PROBLEM)


def _explain(code: str, output: Form) -> None:
    text = explained.explain(code)
    if output is Form.TABLE:
        write(text)
        return
    known = CODES[code.upper()]
    document(Explanation(known.code, known.level, known.title, explained.sections()[known.code]))


def _print(flows: Sequence[str], found: Sequence[Found], suppressed: int) -> None:
    """Print the findings, then a summary."""
    if found:
        styles = ["red" if each.level == "error" else "yellow" for each in found]
        rows = [(each.level, each.code, each.where, each.what, each.remedy, each.place) for each in found]
        table(("", "code", "where", "what", "remedy", "declared at"), rows, styles=styles)
    errors = sum(each.level == "error" for each in found)
    named = f"flow {', '.join(flows)}" if flows else "no flow could be loaded"
    counts = [counted(errors, "error"), counted(len(found) - errors, "warning")]
    counts += [f"{suppressed} suppressed"] if suppressed else []
    write(plain(f"{named}: {', '.join(counts)}"))


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - 20 ms that only SARIF needs

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0.0.0"
