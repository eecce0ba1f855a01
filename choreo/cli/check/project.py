"""Collect the findings of a project: of its flows, topics, schemas and frozen versions, and of exported flows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from choreo import Event
from choreo.adapters import frozen_flows
from choreo.adapters.avro import frozen
from choreo.adapters.avro.schema import schema_of
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.app.bridge import findings as between
from choreo.cli.check import places
from choreo.cli.check.found import Found, of_error, of_finding
from choreo.cli.schemas import event_classes
from choreo.core.checks import checks
from choreo.core.declare.flow import Flow
from choreo.core.definition import load
from choreo.core.errors import ChoreoError, DeclarationError
from choreo.settings import Settings
from choreo.wiring.flows import import_flows


class Answer(NamedTuple):
    """The names of the checked flows, and every finding."""

    flows: list[str]
    findings: list[Found]


def of_project(config: Settings) -> Answer:
    """Check the project in the current folder; raises SettingsError where it cannot be loaded."""
    try:
        flows = import_flows(config.flows)
    except DeclarationError as error:
        return Answer([], [places.of_raised(of_error("flow", error), error)])
    found = [*_flows(flows.values()), *_between(flows), *_topics(flows.values(), config)]
    found += [*_schemas(flows.values(), config), *_versions(flows.values(), config)]
    known = places.Places(config.flows, flows.values())
    return Answer(list(flows), [known.of(each) for each in found])


def of_files(paths: Sequence[Path]) -> Answer:
    """Check exported flows, each a file of JSON; one that cannot be read is a finding."""
    names, found = [], []
    for path in paths:
        try:
            flow = load(path.read_bytes(), str(path))
        except OSError as error:
            found.append(_unreadable(path, str(error.strerror or error)))
        except ChoreoError as error:
            found.append(_unreadable(path, error.what))
        else:
            names.append(flow.name)
            found += [places.in_file(of_finding(each), str(path)) for each in checks.check(flow)]
    return Answer(names, found)


def _unreadable(path: Path, why: str) -> Found:
    remedy = "Export it again with `choreo flow export`."
    return Found("C003", "error", "flow", str(path), why, remedy, file=str(path))


def _flows(flows: Iterable[Flow]) -> Iterator[Found]:
    for flow in flows:
        try:
            yield from map(of_finding, flow.findings())
        except DeclarationError as error:
            yield of_error("flow", error)


def _between(flows: dict[str, Flow]) -> Iterator[Found]:
    try:
        yield from map(of_finding, between(flows))
    except DeclarationError as error:
        yield of_error("flow", error)


def _topics(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    if not (config.kafka or "topics" in config.model_fields_set or config.topics.is_dir()):
        return
    try:
        topics = load_topics(config.topics)
        drafts = [flow.draft() for flow in flows]
    except ChoreoError as error:
        yield of_error("topics", error)
        return
    for problem in check_topics(drafts, topics):
        yield of_error("topics", problem)


def _schemas(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    """Yield the differences of event classes to each other and to their frozen versions."""
    try:
        yield from _clashes(flows)
        for problem in frozen.check(event_classes(flows), config.schemas):
            yield of_error("schemas", problem)
    except ChoreoError as error:
        yield of_error("schemas", error)


def _clashes(flows: Iterable[Flow]) -> Iterator[Found]:
    """Yield the types of which two flows have classes that are written in other bytes: their contract is one file."""
    known: dict[str, tuple[type[Event], str]] = {}
    for flow in flows:
        for each in event_classes([flow]):
            first, other = known.setdefault(each.event_type, (each, flow.name))
            if first is not each and schema_of(first).fingerprint != schema_of(each).fingerprint:
                what = f"flows {other} and {flow.name} have two classes of it with other fields"
                remedy = f"Import the one class of {first.__module__} in both, or rename one of them."
                error = DeclarationError(what, where=f"event {each.event_type}", remedy=remedy, code="C705")
                yield of_error("schemas", error)


def _versions(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    """Yield the differences of each flow to its frozen versions; a flow with no file of any version is free."""
    known, flows = frozen_flows.read(config.schemas), list(flows)
    names = {flow.name for flow in flows}
    yield from (of_error("versions", fault) for (name, _), fault in known.faults.items() if name not in names)
    for flow in flows:
        try:
            declared = flow.draft()
        except DeclarationError:
            continue  # found above, by the check of the flow
        if known.numbers(flow.name):
            for problem in frozen_flows.check(declared, known, config.schemas):
                yield of_error("versions", problem.error)
