"""`choreo flow`: a flow as data, for a tracker that runs without its code, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from choreo.cli.deferred import group
from choreo.cli.output import Format, Output, document, write
from choreo.cli.project import FlowArgument, chosen, declared
from choreo.core.definition import FlowDefinition
from choreo.core.definition import export as exported
from choreo.core.diagram import mermaid as drawn
from choreo.core.errors import SettingsError

cli: typer.Typer = group("Export a flow as JSON, or draw it as Mermaid.")

To = Annotated[Path | None, typer.Option("--to", help="The file to write; else it is printed.")]


@cli.command("export")
def export(flow: FlowArgument = "", *, to: To = None, output: Output = Format.JSON) -> None:  # noqa: ARG001 - has one form
    """Print the checked flow as JSON, which is its only form: steps, waits, deadlines, events."""
    _give(exported(_definition(flow)).decode(), to)


@cli.command("mermaid")
def mermaid(flow: FlowArgument = "", *, to: To = None, output: Output = Format.TABLE) -> None:
    """Print the flow as a Mermaid flowchart; with -o json in a document with its name."""
    definition = _definition(flow)
    picture = drawn(definition).rstrip("\n")
    if output is Format.JSON and to is None:
        document({"flow": definition.name, "mermaid": picture})
    else:
        _give(picture, to)


def _definition(name: str) -> FlowDefinition:
    flows = declared()
    return flows[chosen(flows, name)].definition


def _give(text: str, to: Path | None) -> None:
    if to is None:
        write(text)
        return
    try:
        to.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"cannot be written: {error.strerror}", where=str(to), remedy="Name a file in a folder you may write to."
        ) from error
