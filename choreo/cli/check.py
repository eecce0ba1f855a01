"""`choreo check`: everything that can be known of a project before it runs: its flows, topics and schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
import typer

from choreo import settings
from choreo.adapters.avro import frozen
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.schemas import event_classes
from choreo.core.declare import Flow
from choreo.core.errors import ChoreoError, DeclarationError
from choreo.settings import Settings
from choreo.wiring.flows import load_flows


class Found(msgspec.Struct, frozen=True):
    """One thing that is wrong, or worth knowing."""

    level: Literal["error", "warning"]
    part: Literal["flow", "topics", "schemas"]
    where: str
    what: str
    remedy: str


class Report(msgspec.Struct, frozen=True):
    """What was looked at and what was found."""

    ok: bool
    flows: list[str]
    findings: list[Found]


def check(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Check flows, topics and schemas, and exit with 1 if anything is wrong.

    Each flow is checked whole, and each event class must fit what is frozen. A project that names brokers, or has a
    folder of topics, must have a topic for each event.
    """
    known = settings.load()
    try:
        flows = load_flows(known.flows)
    except DeclarationError as error:
        flows, found = {}, [_of("flow", error)]
    else:
        found = [*_flows(flows.values()), *_topics(flows.values(), known), *_schemas(flows.values(), known)]
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


def _topics(flows: Iterable[Flow], known: Settings) -> Iterator[Found]:
    if not (known.kafka or "topics" in known.model_fields_set or known.topics.is_dir()):
        return
    try:
        topics = load_topics(known.topics)
        drafts = [flow.draft() for flow in flows]
    except ChoreoError as error:
        yield _of("topics", error)
        return
    for problem in check_topics(drafts, topics):
        yield _of("topics", problem)


def _schemas(flows: Iterable[Flow], known: Settings) -> Iterator[Found]:
    try:
        for problem in frozen.check(event_classes(flows), known.schemas):
            yield _of("schemas", problem)
    except ChoreoError as error:
        yield _of("schemas", error)


def _of(part: Literal["flow", "topics", "schemas"], error: ChoreoError) -> Found:
    return Found("error", part, error.where, error.what, error.remedy)


def _print(flows: list[str], found: list[Found]) -> None:
    """The findings, errors first, and a sentence that sums up."""
    found = sorted(found, key=lambda each: each.level != "error")
    if found:
        styles = ["red" if each.level == "error" else "yellow" for each in found]
        rows = [(each.level, each.where, each.what, each.remedy) for each in found]
        table(("", "where", "what", "remedy"), rows, styles=styles)
    errors = sum(each.level == "error" for each in found)
    named = f"flow {', '.join(flows)}" if flows else "no flow could be loaded"
    write(plain(f"{named}: {errors} errors, {len(found) - errors} warnings"))
