"""`choreo check`: find the faults of a project before it runs: in its flows, topics and schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
import typer

from choreo import settings
from choreo.adapters import frozen_flows
from choreo.adapters.avro import frozen
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.schemas import event_classes
from choreo.core.declare.flow import Flow
from choreo.core.errors import ChoreoError, DeclarationError
from choreo.core.wording import counted
from choreo.settings import Settings
from choreo.wiring.flows import load_flows


class Found(msgspec.Struct, frozen=True):
    """One finding: an error or a warning."""

    level: Literal["error", "warning"]
    part: Literal["flow", "topics", "schemas", "versions"]
    where: str
    what: str
    remedy: str


class Report(msgspec.Struct, frozen=True):
    """The flows that were checked and the findings."""

    ok: bool
    flows: list[str]
    findings: list[Found]


def check(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Check flows, topics and schemas, and exit with 1 if anything is wrong.

    Each flow is checked whole, and each event class must fit its frozen versions. A project that names brokers, or has
    a folder of topics, must have a topic for each event. A flow with frozen versions must be frozen as it is.
    """
    config = settings.load()
    try:
        flows = load_flows(config.flows)
    except DeclarationError as error:
        flows, found = {}, [_of("flow", error)]
    else:
        found = [*_flows(flows.values()), *_topics(flows.values(), config), *_schemas(flows.values(), config)]
        found += _versions(flows.values(), config)
    failed = any(strict or each.level == "error" for each in found)
    if output is Format.JSON:
        document(Report(ok=not failed, flows=list(flows), findings=found))
    else:
        _print(list(flows), found)
    if failed:
        raise typer.Exit(PROBLEM)


def _flows(flows: Iterable[Flow]) -> Iterator[Found]:
    for flow in flows:
        try:
            for finding in flow.findings():
                yield Found(finding.level, "flow", finding.where, finding.what, finding.remedy)
        except DeclarationError as error:
            yield _of("flow", error)


def _topics(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    if not (config.kafka or "topics" in config.model_fields_set or config.topics.is_dir()):
        return
    try:
        topics = load_topics(config.topics)
        drafts = [flow.draft() for flow in flows]
    except ChoreoError as error:
        yield _of("topics", error)
        return
    for problem in check_topics(drafts, topics):
        yield _of("topics", problem)


def _schemas(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    try:
        for problem in frozen.check(event_classes(flows), config.schemas):
            yield _of("schemas", problem)
    except ChoreoError as error:
        yield _of("schemas", error)


def _versions(flows: Iterable[Flow], config: Settings) -> Iterator[Found]:
    """Yield the differences of each flow to its frozen versions; a flow with no file of any version is free."""
    known, flows = frozen_flows.read(config.schemas), list(flows)
    names = {flow.name for flow in flows}
    yield from (_of("versions", fault) for (name, _), fault in known.faults.items() if name not in names)
    for flow in flows:
        try:
            declared = flow.draft()
        except DeclarationError:
            continue  # found above, by the check of the flow
        if known.numbers(flow.name):
            for problem in frozen_flows.check(declared, known, config.schemas):
                yield _of("versions", problem.error)


def _of(part: Literal["flow", "topics", "schemas", "versions"], error: ChoreoError) -> Found:
    return Found("error", part, error.where, error.what, error.remedy)


def _print(flows: list[str], found: list[Found]) -> None:
    """Print the findings, errors first, then a summary."""
    found = sorted(found, key=lambda each: each.level != "error")
    if found:
        styles = ["red" if each.level == "error" else "yellow" for each in found]
        rows = [(each.level, each.where, each.what, each.remedy) for each in found]
        table(("", "where", "what", "remedy"), rows, styles=styles)
    errors = sum(each.level == "error" for each in found)
    named = f"flow {', '.join(flows)}" if flows else "no flow could be loaded"
    write(plain(f"{named}: {counted(errors, 'error')}, {counted(len(found) - errors, 'warning')}"))
