"""`choreo schemas`: freeze the contract of the events in files, and compare the classes with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec
import typer

from choreo import Event, settings
from choreo.adapters.avro import frozen
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, frozen_files, table, write
from choreo.cli.project import declared
from choreo.core.declare.flow import Flow
from choreo.core.wording import counted

cli: typer.Typer = group("Freeze, check and list the contract of the events.")


class Contract(msgspec.Struct, frozen=True):
    """One event: its frozen versions, and whether the class equals the newest."""

    event: str
    versions: list[int]
    file: str
    """Newest file; empty if there is none."""
    state: str
    """State of the class: frozen, changed or not frozen."""


class Problem(msgspec.Struct, frozen=True):
    """One way in which a class does not fit its files."""

    where: str
    what: str
    remedy: str


def event_classes(flows: Iterable[Flow]) -> list[type[Event]]:
    """Return the event classes of these flows, each once."""
    classes = {type_: cls for flow in flows for type_, cls in flow.event_classes.items()}
    return [cast("type[Event]", classes[type_]) for type_ in sorted(classes)]


@cli.command("freeze")
def freeze(*, output: Output = Format.TABLE) -> None:
    """Write a new version of each changed event class; refuse a change that breaks a reader, with exit code 1."""
    written = frozen.freeze(event_classes(declared().values()), settings.load().schemas)
    frozen_files(written, "Every event is frozen as it is.", output)


@cli.command("check")
def check(*, output: Output = Format.TABLE) -> None:
    """Check each event class against every frozen version (FULL_TRANSITIVE); exit with 1 if one does not fit."""
    classes = event_classes(declared().values())
    problems = frozen.check(classes, settings.load().schemas)
    if output is Format.JSON:
        shown = [Problem(problem.where, problem.what, problem.remedy) for problem in problems]
        document({"ok": not problems, "problems": shown})
    elif problems:
        table(("where", "what", "remedy"), [(each.where, each.what, each.remedy) for each in problems])
    else:
        fit = "fits its" if len(classes) == 1 else "fit their"
        write(f"{counted(len(classes), 'event')} {fit} frozen versions.")
    if problems:
        raise typer.Exit(PROBLEM)


@cli.command("list")
def list_(*, output: Output = Format.TABLE) -> None:
    """List the events with their frozen versions."""
    folder = settings.load().schemas
    versions = frozen.versions(folder)
    contracts = [_contract(each, versions.get(each.event_type, [])) for each in event_classes(declared().values())]
    if output is Format.JSON:
        document({"events": contracts})
        return
    rows = [(each.event, len(each.versions), each.state, each.file) for each in contracts]
    table(("event", "versions", "state", "newest"), rows)


def _contract(event_class: type[Event], of_event: list[frozen.Version]) -> Contract:
    if not of_event:
        return Contract(event_class.event_type, [], "", "not frozen")
    newest = of_event[-1]
    problems = frozen.check([event_class], newest.path.parent)
    return Contract(
        event_class.event_type,
        [version.number for version in of_event],
        str(newest.path),
        "changed" if problems else "frozen",
    )
