"""`choreo topics`: write `topics/*.yaml`, compare them with Kafka, show what would be done about it, and do it."""

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
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen, in_app
from choreo.core.errors import ConflictError, SettingsError, StorageError
from choreo.wiring import App
from choreo.wiring.flows import load_flows

cli: typer.Typer = group("Hold the topics on Kafka to what topics/*.yaml says.")

Owner = Annotated[str, typer.Option(metavar="TEAM", help="The team that answers for the topics.")]
Kafka = Annotated[
    str, typer.Option("--kafka", metavar="HOST:PORT", help="A broker; instead of the one in the settings.")
]
Copies = Annotated[
    int, typer.Option("--copies", min=BROKERS_OWN, help="Copies of a new topic; -1: what the cluster does by default.")
]
Remove = Annotated[
    list[str] | None, typer.Option("--remove", metavar="FLOW", help="Delete the topics of a flow that is gone.")
]
SameRecords = Annotated[
    bool, typer.Option("--same-records", help="Its records were restored, each at the offset that it had.")
]
AllowDestroy = Annotated[bool, typer.Option("--allow-destroy", help="Allow what may lose records.")]

_STYLES = {Action.CREATE: "green", Action.SET: "yellow", Action.REMOVE: "red", Action.REFUSE: "bold red"}


@cli.command("init")
def init(*, owner: Owner = "", output: Output = Format.TABLE) -> None:
    """Write topics/FLOW.yaml for each flow that has none; files that are there stay as they are."""
    known = settings.load()
    flows = load_flows(known.flows).values()
    present = load_topics(known.topics) if known.topics.is_dir() else {}
    missing = [flow.draft() for flow in flows if flow.name not in present]
    written = [known.topics / f"{flow.name}.yaml" for flow in missing]
    try:
        known.topics.mkdir(parents=True, exist_ok=True)
        for flow, path in zip(missing, written, strict=True):
            text = topic_text(flow, partitions=known.partitions, owner=owner or Path.cwd().name)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or known.topics),
            remedy="Make room, move away what is in its place, or name another folder: CHOREO_TOPICS.",
        ) from error
    if output is Format.JSON:
        document({"written": [str(path) for path in written]})
        return
    for path in written:
        write(f"wrote {path}")
    write("Next: choreo check, then choreo topics plan." if written else "Every flow has its topic.")


@cli.command("diff")
def diff(*, kafka: Kafka = "", copies: Copies = BROKERS_OWN, output: Output = Format.TABLE) -> None:
    """Show every difference between topics/ and the cluster, also those nobody asks to change; exits with 1 if any."""
    wanted, admin = _opened(kafka, copies)
    found = asyncio.run(_differences(admin, wanted, ()))
    _print(found, output, f"{len(wanted)} topics are as declared.")
    if found:
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
    """Show what `apply` would do; exits with 1 if it would refuse."""
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
    """Make the cluster's topics what topics/ says: all that `plan` shows, or nothing if one change is refused."""
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
    """Take a flow's topic, as it is now, for its log, where it was deleted and made again; with every role stopped.

    Positions, states, views and what the flow's services remember of the old log are dropped, and the new one is read
    from its first record.
    """

    async def adopted(app: App) -> str:
        name = chosen(app.flows, flow)
        if app.kafka is None:
            raise SettingsError("this needs Kafka", where="setting kafka", remedy="Set CHOREO_KAFKA=HOST:PORT.")
        await app.kafka.adopt(name, same_records=same_records)
        return name

    name = in_app(adopted)
    if output is Format.JSON:
        document({"flow": name, "same_records": same_records})
        return
    kept = "what is known of its records stays" if same_records else "it is read from its first record"
    write(plain(f"topic {name} is the log of flow {name} now: {kept}"))


def _opened(kafka: str, copies: int) -> tuple[list[Wanted], TopicAdmin]:
    known = settings.load()
    wanted = wanted_topics(load_topics(known.topics).values(), copies=copies)
    return wanted, TopicAdmin(KafkaOptions.of(kafka or known.kafka, settings_of(os.environ)), copies=copies)


async def _differences(admin: TopicAdmin, wanted: Sequence[Wanted], removed: Sequence[str]) -> list[Change]:
    return changes(wanted, await admin.find(wanted, removed), removed)


def _planned(found: Iterable[Change]) -> list[Change]:
    return [change for change in found if change.action is not Action.LEAVE]


def _print(found: Sequence[Change], output: Format, nothing: str) -> None:
    if output is Format.JSON:
        document({"changes": found})
    elif not found:
        write(nothing)
    else:
        rows = [(each.action, each.topic, each.what, each.here, each.declared, _remark(each)) for each in found]
        styles = [_STYLES.get(each.action, "") for each in found]
        table(("", "topic", "what", "here", "declared", ""), rows, styles=styles)


def _remark(change: Change) -> str:
    return change.note or ("may lose records" if change.destroys else "")
