"""The frozen versions of flows: `schemas/flows/order.3.json`, the flow JSON of version 3 of the flow `order`.

A run is folded by the definition of its version for its whole life, and ended runs in a rebuild too, so a file stays.
Knows files and definitions; prints nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from choreo.adapters.whole_files import CANNOT_BE_WRITTEN, write_whole
from choreo.core.definition import FlowDefinition, export, load
from choreo.core.errors import ChoreoError, SchemaError
from choreo.core.flow_changes import FlowChange, flow_changes

FORMAT = 1
"""Format of a frozen file. A file of a newer one is refused: this choreo would not know all that it says."""
FOLDER = "flows"
"""Its folder, below that of the frozen schemas."""

_FILE = re.compile(r"(?P<flow>[A-Za-z_][\w.-]*)\.(?P<number>[1-9]\d*)\.json\Z")
_FREEZE = "Run `choreo flow freeze` and commit the file it writes."
_RESTORE = "Restore it from version control: runs of this version are folded by it."


class FrozenFlow(NamedTuple):
    """One frozen version of one flow."""

    flow: str
    version: int
    path: Path
    definition: FlowDefinition


class FrozenFlows(NamedTuple):
    """The frozen versions of all flows, each by its number, and the files that cannot be read."""

    flows: Mapping[str, Mapping[int, FrozenFlow]]
    faults: Mapping[tuple[str, int], SchemaError]
    """(flow, version) → the reason why its file cannot be read."""

    def of(self, flow: str) -> dict[int, FrozenFlow]:
        """Return the readable versions of a flow, oldest first."""
        return dict(sorted(self.flows.get(flow, {}).items()))

    def numbers(self, flow: str) -> list[int]:
        """Return the numbers of all files of a flow, also of those that cannot be read."""
        return sorted({*self.flows.get(flow, {}), *(number for name, number in self.faults if name == flow)})


def read(schemas: Path) -> FrozenFlows:
    """Read every frozen flow below this folder of schemas; a file that cannot be read is a fault beside the others."""
    flows: dict[str, dict[int, FrozenFlow]] = {}
    faults: dict[tuple[str, int], SchemaError] = {}
    for path in sorted((schemas / FOLDER).glob("*.json")):
        name = _FILE.match(path.name)
        if name is None:
            remedy = "Call it such as order.1.json, or put it elsewhere."
            faults[path.stem, 0] = SchemaError("this name has no flow and version", where=str(path), remedy=remedy)
            continue
        flow, number = name["flow"], int(name["number"])
        try:
            flows.setdefault(flow, {})[number] = FrozenFlow(flow, number, path, _definition(path, flow, number))
        except SchemaError as error:
            faults[flow, number] = error
    return FrozenFlows(flows, faults)


def freeze(declared: FlowDefinition, frozen: FrozenFlows, schemas: Path) -> Path | None:
    """Write the file of the flow's version, where it is new or has changed compatibly; return it if it was written.

    Raises SchemaError with every change that runs in flight cannot bear.
    """
    problems = check(declared, frozen, schemas)
    if lasting := [each.error for each in problems if not each.mends]:
        raise joined(lasting, declared)
    if not problems:
        return None
    path = path_of(declared.name, declared.version, schemas)
    text = json.dumps({"format": FORMAT, **json.loads(export(declared))}, indent=2, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n")
    except OSError as error:
        raise SchemaError(f"cannot be written: {error.strerror}", where=str(path), remedy=CANNOT_BE_WRITTEN) from error
    return path


class Problem(NamedTuple):
    """A difference between a declared flow and its files; a new freeze `mends` it, or does not."""

    error: SchemaError
    mends: bool
    breaks: bool = False
    """Whether the flow is declared in a way that runs in flight cannot bear."""


def check(declared: FlowDefinition, frozen: FrozenFlows, schemas: Path) -> list[Problem]:
    """Return each problem of a declared flow with its frozen files; [] if its version is frozen as it is."""
    name, version = declared.name, declared.version
    found = [Problem(error, mends=False) for (flow, _), error in frozen.faults.items() if flow == name]
    known_versions, numbers = frozen.of(name), frozen.numbers(name)
    known = known_versions.get(version)
    path = str(path_of(name, version, schemas))
    if numbers and version < numbers[-1]:
        what = f"version={version} is declared, and version {numbers[-1]} is frozen already"
        remedy = f"Declare version={numbers[-1]}, or a greater one."
        found.append(Problem(SchemaError(what, where=f"flow {name}", remedy=remedy, code="C803"), mends=False))
    elif known is not None:
        newer = numbers[-1] + 1
        found += [_problem(change, version, newer) for change in flow_changes(known.definition, declared)]
    elif version not in numbers:
        older = list(known_versions.values())
        found += [each for other in older[-1:] for each in _unlike(declared, other)]
        found.append(Problem(SchemaError("is not frozen", where=path, remedy=_FREEZE, code="C803"), mends=True))
    return found


def path_of(flow: str, version: int, schemas: Path) -> Path:
    """Return the file of a version."""
    return schemas / FOLDER / f"{flow}.{version}.json"


def missing(flow: str, version: int, schemas: Path) -> SchemaError:
    """Return the error for a version that is in flight and has no file."""
    return SchemaError(
        f"version {version} of flow {flow} is in flight and not frozen here",
        where=str(path_of(flow, version, schemas)),
        remedy=_RESTORE,
    )


def joined(errors: list[SchemaError], declared: FlowDefinition) -> SchemaError:
    """Return several errors about a flow as one."""
    if len(errors) == 1:
        return errors[0]
    listed = "\n".join(f"  - {error.sentence}" for error in errors)
    return SchemaError(f"{len(errors)} changes\n{listed}", where=f"flow {declared.name}")


def _unlike(declared: FlowDefinition, older: FrozenFlow) -> list[Problem]:
    """Return the parts that no version may change: by key and start every reader finds the runs of all versions."""
    found = []
    for name in ("key", "starts"):
        before, now = getattr(older.definition, name), getattr(declared, name)
        if before != now:
            what = f"{name} is {now}, and it is {before} in version {older.version}: versions of a flow share it"
            remedy = f"Keep {name}={before}, or declare a flow of another name."
            error = SchemaError(what, where=f"flow {declared.name}", remedy=remedy, code="C801")
            found.append(Problem(error, mends=False, breaks=True))
    return found


def _problem(change: FlowChange, version: int, newer: int) -> Problem:
    if change.breaks:
        what = f"{change.what} since version {version} was frozen: {change.breaks}"
        remedy = (
            f"Declare version={newer} and freeze it; keep the old steps beside the new ones "
            f"until the runs of version {version} have ended. Or take the change back."
        )
        return Problem(SchemaError(what, where=change.where, remedy=remedy, code="C801"), mends=False, breaks=True)
    what = f"{change.what} since version {version} was frozen; runs in flight can bear it"
    return Problem(SchemaError(what, where=change.where, remedy=_FREEZE, code="C802"), mends=True)


def _definition(path: Path, flow: str, number: int) -> FlowDefinition:
    """Return the definition in a file; raises SchemaError on one that is damaged, newer, or of another flow."""
    try:
        text = path.read_text(encoding="utf-8")
        plain = json.loads(text)
        if not isinstance(plain, dict):
            raise SchemaError("is no JSON of a flow", where=str(path), remedy=_RESTORE)
        written = plain.pop("format", None)
        if isinstance(written, int) and written > FORMAT:
            raise _newer(path, f"its format is {written}, and this choreo knows {FORMAT}")
        definition = load(json.dumps(plain).encode(), str(path))
    except (OSError, ValueError, RecursionError, ChoreoError) as error:
        if isinstance(error, SchemaError):
            raise
        why = error.what if isinstance(error, ChoreoError) else str(error)
        raise SchemaError(f"cannot be read as a flow: {why}", where=str(path), remedy=_RESTORE) from error
    if unknown := _unknown(plain, json.loads(export(definition)), ""):
        raise _newer(path, f"it has {unknown}, which this choreo does not know")
    if (definition.name, definition.version) != (flow, number):
        what = f"holds version {definition.version} of flow {definition.name}"
        raise SchemaError(what, where=str(path), remedy="Call the file by its flow and version, or restore it.")
    return definition


def _newer(path: Path, what: str) -> SchemaError:
    return SchemaError(
        f"was written by a newer choreo: {what}", where=str(path), remedy="Install the choreo that wrote it."
    )


def _unknown(plain: Any, known: Any, path: str) -> str:
    """Return the path of a field that the loaded definition does not have; "" if there is none."""
    if isinstance(plain, dict) and isinstance(known, dict):
        for name, value in plain.items():
            here = f"{path}.{name}".lstrip(".")
            if name not in known and value not in (None, "", [], {}, 0, False):
                return here
            if name in known and (deeper := _unknown(value, known[name], here)):
                return deeper
    if isinstance(plain, list) and isinstance(known, list):
        pairs = enumerate(zip(plain, known, strict=False))
        return next((found for n, (one, other) in pairs if (found := _unknown(one, other, f"{path}[{n}]"))), "")
    return ""
