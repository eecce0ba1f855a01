"""The frozen contract: `schemas/OrderPlaced.1.avsc`, `.2.avsc`, … one file per version, none ever changed or removed.

A class may differ from its newest file only compatibly, and from every older one too (FULL_TRANSITIVE): the log keeps
everything, and services are deployed in any order. Knows files and schemas; prints nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastavro.schema import SchemaParseException, UnknownType

from choreo.adapters.avro.compat import Change, changes
from choreo.adapters.avro.schema import Schema, schema_from, schema_of
from choreo.adapters.whole_files import CANNOT_BE_WRITTEN, write_whole
from choreo.core.errors import SchemaError
from choreo.event.event import Event

_FILE = re.compile(r"(?P<event>[A-Za-z_][\w.]*)\.(?P<number>[1-9]\d*)\.avsc\Z")
_FREEZE = "Run `choreo schemas freeze` and commit the file it writes"


class Version(NamedTuple):
    """One frozen version of one event."""

    event: str
    number: int
    path: Path
    schema: Schema


def freeze(event_classes: Iterable[type[Event]], folder: Path) -> list[Path]:
    """Write a new version of each class that has changed, and return the written files.

    Raises SchemaError with the first incompatible change, before anything is written.
    """
    classes, frozen = list(event_classes), versions(folder)
    for event_class in classes:
        for problem in _incompatible(event_class, frozen.get(event_class.event_type, [])):
            raise problem
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for each in classes if (path := _write(each, folder, frozen.get(each.event_type, [])))]
    except OSError as error:
        place = str(error.filename or folder)
        raise SchemaError(f"cannot be written: {error.strerror}", where=place, remedy=CANNOT_BE_WRITTEN) from error


def check(event_classes: Iterable[type[Event]], folder: Path) -> list[SchemaError]:
    """Return an error for each difference between the classes and the frozen files; empty when all fit.

    Raises SchemaError if a file cannot be read.
    """
    frozen = versions(folder)
    return [problem for each in event_classes for problem in _problems(each, frozen.get(each.event_type, []))]


def versions(folder: Path) -> dict[str, list[Version]]:
    """Return the frozen versions of each event, oldest first; raises SchemaError if a file does not fit its name."""
    found: dict[str, list[Version]] = {}
    for path in sorted(folder.glob("*.avsc")):
        version = _read(path)
        found.setdefault(version.event, []).append(version)
    for event, of_event in found.items():
        of_event.sort(key=lambda version: version.number)
        for expected, version in enumerate(of_event, start=1):
            if version.number != expected:
                raise SchemaError(
                    f"version {expected} is missing",
                    where=f"{folder}/{event}.{expected}.avsc",
                    remedy="Restore it from version control: the log may hold events written with it.",
                )
    return found


def versions_by_fingerprint(folder: Path) -> dict[bytes, Schema]:
    """Return every frozen schema by its fingerprint on the wire."""
    return {version.schema.fingerprint: version.schema for each in versions(folder).values() for version in each}


_NO_SCHEMA = (OSError, ValueError, KeyError, TypeError, RecursionError, SchemaParseException, UnknownType)
"""Errors of a file that is no schema; RecursionError: it is nested too deeply."""


def _read(path: Path) -> Version:
    """Return the version in one file; raises SchemaError."""
    name = _FILE.match(path.name)
    if name is None:
        raise SchemaError(
            "this name has no event and version", where=str(path), remedy="Call it such as OrderPlaced.1.avsc."
        )
    try:
        declaration = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(declaration, dict) or declaration.get("type") != "record" or "fields" not in declaration:
            raise SchemaError(
                "is not the schema of a record", where=str(path), remedy="Restore the file from version control."
            )
        return Version(name["event"], int(name["number"]), path, schema_from(declaration))
    except _NO_SCHEMA as error:
        raise SchemaError(
            f"cannot be read as an Avro schema: {error}", where=str(path), remedy="Restore it from version control."
        ) from error


def _problems(event_class: type[Event], frozen: list[Version]) -> Iterator[SchemaError]:
    """Yield the errors of one class, for `check`."""
    if not frozen:
        yield SchemaError("is not frozen", where=event_class.event_type, remedy=f"{_FREEZE}.", code="C701")
        return
    incompatible = list(_incompatible(event_class, frozen))
    yield from incompatible
    if incompatible:
        return
    newest = frozen[-1]
    for change in _differences(newest.schema, schema_of(event_class)):
        yield SchemaError(
            f"{change.what} since version {newest.number} was frozen",
            where=f"{event_class.event_type}.{change.field}",
            remedy=f"{_FREEZE}.",
            code="C703",
        )


def _differences(frozen: Schema, present: Schema) -> list[Change]:
    """Return every difference that a reader must know, even one in the bytes alone, such as a record's new name."""
    found = changes(frozen.declaration, present.declaration)
    if not found and frozen.fingerprint != present.fingerprint:
        found = [Change("*", "is written in other bytes", "")]
    return found


def _incompatible(event_class: type[Event], frozen: list[Version]) -> Iterator[SchemaError]:
    """Yield the changes that break readers, each named once, with the newest version it breaks."""
    present, reported = schema_of(event_class).declaration, set()
    for version in reversed(frozen):
        for change in changes(version.schema.declaration, present):
            if change.remedy and change.field not in reported:
                reported.add(change.field)
                yield SchemaError(
                    f"{change.what} (against version {version.number})",
                    where=f"{event_class.event_type}.{change.field}",
                    remedy=f"{change.remedy}.",
                    code="C702",
                )


def _write(event_class: type[Event], folder: Path, frozen: list[Version]) -> Path | None:
    """Write the class's schema as its next version; return None if the newest version equals it."""
    present = schema_of(event_class)
    if frozen and not _differences(frozen[-1].schema, present):
        return None
    declaration = present.declaration
    path = folder / f"{event_class.event_type}.{len(frozen) + 1}.avsc"
    write_whole(path, json.dumps(declaration, indent=2, ensure_ascii=False) + "\n")
    return path
