"""`choreo topics`: write `topics/*.yaml`, compare them with Kafka, show the changes needed, and apply them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from choreo import settings
from choreo.adapters.kafka.options import KafkaOptions, settings_of
from choreo.adapters.kafka.topics import (
    BROKERS_OWN,
    Action,
    Change,
    TopicAdmin,
    Wanted,
    changes,
    refuse,
    wanted_topics,
)
from choreo.adapters.topics_yaml import load_topics, topic_text
from choreo.adapters.whole_files import write_whole
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen, in_app
from choreo.core.errors import ConflictError, StorageError
from choreo.core.wording import counted
from choreo.wiring import App
from choreo.wiring.flows import load_flows

cli: typer.Typer = group("Keep the topics on Kafka equal to topics/*.yaml.")

Owner = Annotated[str, typer.Option(metavar="TEAM", help="The team that is responsible for the topics.")]
Kafka = Annotated[
    str, typer.Option("--kafka", metavar="HOST:PORT", help="A broker; instead of the one in the settings.")
]
Copies = Annotated[
    int, typer.Option("--copies", min=BROKERS_OWN, help="Copies of a new topic; -1: the cluster's default.")
]
Remove = Annotated[
    list[str] | None, typer.Option("--remove", metavar="FLOW", help="Delete the topics of a flow that was removed.")
]
SameRecords = Annotated[bool, typer.Option("--same-records", help="The records were restored, each at its old offset.")]
AllowDestroy = Annotated[bool, typer.Option("--allow-destroy", help="Allow changes that may lose records.")]

_STYLES = {Action.CREATE: "green", Action.SET: "yellow", Action.REMOVE: "red", Action.REFUSE: "bold red"}


@cli.command("init")
def init(*, owner: Owner = "", output: Output = Format.TABLE) -> None:
    """Write topics/FLOW.yaml for each flow without one; existing files stay as they are."""
    config = settings.load()
    flows = load_flows(config.flows).values()
    present = load_topics(config.topics) if config.topics.is_dir() else {}
    missing = [flow.draft() for flow in flows if flow.name not in present]
    written = [config.topics / f"{flow.name}.yaml" for flow in missing]
    try:
        config.topics.mkdir(parents=True, exist_ok=True)
        for flow, path in zip(missing, written, strict=True):
            text = topic_text(flow, partitions=config.partitions, owner=owner or Path.cwd().name)
            write_whole(path, text, new=True)
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or config.topics),
            remedy="Free disk space, move away the file in its place, or name another folder: CHOREO_TOPICS.",
        ) from error
    if output is Format.JSON:
        document({"written": [str(path) for path in written]})
        return
    for path in written:
        write(f"wrote {path}")
    write("Next: choreo check, then choreo topics plan." if written else "Every flow has its topic.")


@cli.command("diff")
def diff(*, kafka: Kafka = "", copies: Copies = BROKERS_OWN, output: Output = Format.TABLE) -> None:
    """Show every difference between topics/ and the cluster, also those that `apply` leaves; exit with 1 if any."""
    wanted, admin = _opened(kafka, copies)
    differences = asyncio.run(_differences(admin, wanted, ()))
    _print(differences, output, f"{counted(len(wanted), 'topic is', 'topics are')} as declared.")
    if differences:
        raise typer.Exit(PROBLEM)


@cli.command("plan")
def plan(
    *,
    kafka: Kafka = "",
    copies: Copies = BROKERS_OWN,
    remove: Remove = None,
    allow_destroy: AllowDestroy = False,
    output: Output = Format.TABLE,
) -> None:
    """Show the changes that `apply` would make; exit with 1 if it would refuse."""
    wanted, admin = _opened(kafka, copies)
    planned = _planned(asyncio.run(_differences(admin, wanted, remove or ())))
    _print(planned, output, "Nothing to do.")
    try:
        refuse(planned, allow_destroy=allow_destroy)
    except ConflictError as error:
        if output is Format.TABLE:
            write(plain(f"apply would refuse: {error.sentence}"))
        raise typer.Exit(PROBLEM) from error


@cli.command("apply")
def apply(
    *,
    kafka: Kafka = "",
    copies: Copies = BROKERS_OWN,
    remove: Remove = None,
    allow_destroy: AllowDestroy = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the cluster's topics equal to topics/: all changes that `plan` shows, or none if one is refused."""
    wanted, admin = _opened(kafka, copies)

    async def applied() -> list[Change]:
        planned = _planned(await _differences(admin, wanted, remove or ()))
        refuse(planned, allow_destroy=allow_destroy)
        await admin.apply(wanted, planned, remove or ())
        return planned

    done = asyncio.run(applied())
    _print(done, output, "Nothing to do.")


@cli.command("adopt")
def adopt(flow: FlowArgument = "", *, same_records: SameRecords = False, output: Output = Format.TABLE) -> None:
    """Adopt a flow's topic that was deleted and made again as the flow's log, while every role is stopped.

    Offsets, states, views and inboxes of the old log are dropped, and the new log is read from its first record.
    """

    async def adopted(app: App) -> str:
        name = chosen(app.flows, flow)
        await app.backend.adopt(name, same_records=same_records)
        return name

    name = in_app(adopted)
    if output is Format.JSON:
        document({"flow": name, "same_records": same_records})
        return
    kept = "offsets, states and views stay" if same_records else "it is read from its first record"
    write(plain(f"topic {name} is the log of flow {name} now: {kept}"))


def _opened(kafka: str, copies: int) -> tuple[list[Wanted], TopicAdmin]:
    config = settings.load()
    wanted = wanted_topics(load_topics(config.topics).values(), copies=copies)
    return wanted, TopicAdmin(KafkaOptions.of(kafka or config.kafka, settings_of(os.environ)), copies=copies)


async def _differences(admin: TopicAdmin, wanted: Sequence[Wanted], removed: Sequence[str]) -> list[Change]:
    return changes(wanted, await admin.find(wanted, removed), removed)


def _planned(differences: Iterable[Change]) -> list[Change]:
    return [change for change in differences if change.action is not Action.LEAVE]


def _print(differences: Sequence[Change], output: Format, nothing: str) -> None:
    if output is Format.JSON:
        document({"changes": differences})
    elif not differences:
        write(nothing)
    else:
        rows = [(each.action, each.topic, each.what, each.here, each.declared, _remark(each)) for each in differences]
        styles = [_STYLES.get(each.action, "") for each in differences]
        table(("", "topic", "what", "here", "declared", ""), rows, styles=styles)


def _remark(change: Change) -> str:
    return change.note or ("may lose records" if change.destroys else "")
