"""`choreo flow`: export a flow as data, draw or describe it, or freeze its version in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from choreo import settings
from choreo.adapters import frozen_flows
from choreo.adapters.frozen_flows import Problem
from choreo.adapters.topics_yaml import load_topics
from choreo.adapters.whole_files import write_whole
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, frozen_files, table, write
from choreo.cli.project import FlowArgument, chosen, chosen_or_all, declared
from choreo.cli.schemas import event_classes
from choreo.core.definition import FlowDefinition
from choreo.core.definition import export as exported
from choreo.core.diagram import mermaid as drawn
from choreo.core.drawing.asyncapi import asyncapi as described
from choreo.core.drawing.svg import svg as picture_of
from choreo.core.errors import SchemaError, SettingsError
from choreo.core.wording import counted

cli: typer.Typer = group("Export a flow as JSON, draw or describe it, or freeze its version.")

_SCHEMA = "#/components/schemas/{model}"

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


@cli.command("svg")
def svg(flow: FlowArgument = "", *, to: To = None, output: Output = Format.TABLE) -> None:
    """Print the flow as an SVG picture, which needs nothing else to be shown; with -o json in a document with its name.

    Steps have the colour of their service, events are pills, failures are red, undos are dashed.
    """
    definition = _definition(flow)
    picture = picture_of(definition).rstrip("\n")
    if output is Format.JSON and to is None:
        document({"flow": definition.name, "svg": picture})
    else:
        _give(picture, to)


@cli.command("asyncapi")
def asyncapi(flow: FlowArgument = "", *, to: To = None, output: Output = Format.JSON) -> None:  # noqa: ARG001 - has one form
    """Print the flow's log as an AsyncAPI 3.0 document, which is JSON: its events as messages, its steps as operations.

    Other teams read it to publish and consume, and generators make clients of it.
    """
    flows = declared()
    one = flows[chosen(flows, flow)]
    config = settings.load()
    topics = load_topics(config.topics) if config.topics.is_dir() else {}
    partitions = topics[one.name].partitions if one.name in topics else config.partitions
    schemas = {cls.event_type: cls.model_json_schema(ref_template=_SCHEMA) for cls in event_classes([one])}
    _give(json.dumps(described(one.definition, schemas, partitions), indent=2, ensure_ascii=False), to)


@cli.command("freeze")
def freeze(
    flow: FlowArgument = "",
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Write the file of each flow's version; refuse a change that runs in flight cannot bear, with exit code 1.

    With --check each flow is only compared with the file of its version. Without a name: every flow of the project.
    """
    flows = declared()
    definitions = [flows[name].definition for name in chosen_or_all(flows, flow)]
    if check:
        _check(definitions, output)
        return
    schemas = settings.load().schemas
    frozen = frozen_flows.read(schemas)
    paths = [frozen_flows.freeze(definition, frozen, schemas) for definition in definitions]
    frozen_files([path for path in paths if path], "Every flow is frozen as it is.", output)


def _check(definitions: list[FlowDefinition], output: Format) -> None:
    schemas = settings.load().schemas
    frozen = frozen_flows.read(schemas)
    found: list[Problem] = [each for flow in definitions for each in frozen_flows.check(flow, frozen, schemas)]
    errors: list[SchemaError] = [each.error for each in found]
    if output is Format.JSON:
        problems = [
            {
                "where": one.error.where,
                "what": one.error.what,
                "remedy": one.error.remedy,
                "mended_by_freeze": one.mends,
            }
            for one in found
        ]
        document({"ok": not found, "problems": problems})
    elif found:
        table(("where", "what", "remedy"), [(each.where, each.what, each.remedy) for each in errors])
    else:
        fits = "equals its" if len(definitions) == 1 else "equal their"
        write(f"{counted(len(definitions), 'flow')} {fits} frozen version.")
    if found:
        raise typer.Exit(PROBLEM)


def _definition(name: str) -> FlowDefinition:
    flows = declared()
    return flows[chosen(flows, name)].definition


def _give(text: str, to: Path | None) -> None:
    if to is None:
        write(text)
        return
    try:
        write_whole(to, f"{text}\n")
    except OSError as error:
        raise SettingsError(
            f"cannot be written: {error.strerror}",
            where=str(to),
            remedy="Free disk space, or name a file in a folder you may write to.",
        ) from error
