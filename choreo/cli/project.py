"""The project of a command: its settings, its flows, and its storage opened for the time of one call.

Completion of flow and service names stands here too, because it reads the project.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Annotated, TypeVar

import typer

from choreo import settings
from choreo.cli.output import remark
from choreo.core.access import Actor, actor_named
from choreo.core.declare.flow import Flow
from choreo.core.errors import NotFoundError, SettingsError, UnavailableError
from choreo.core.events import Position
from choreo.core.partition import partition_of
from choreo.core.wording import did_you_mean
from choreo.wiring import BRIDGE, PROJECTOR, REST, TRACKER, App, open_app
from choreo.wiring.flows import load_flows

T = TypeVar("T")

CATCH_UP_S = 2.0
"""How long a read waits for the read model: a running tracker needs a few milliseconds."""


def in_app(work: Callable[[App], Awaitable[T]], *, memory: bool = False) -> T:
    """Open the project, do one piece of work with it, close it; `memory=True` opens no storage."""

    async def opened() -> T:
        async with open_app(settings.load(), memory=memory) as app:
            return await work(app)

    return asyncio.run(opened())


def os_user() -> Actor:
    """Return the user of this process as the author of an operator's fact; its number where it has no name."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return actor_named(name, "cli")


def declared() -> dict[str, Flow]:
    """Return the project's flows as declared, without opening its storage."""
    return load_flows(settings.load().flows)


def chosen(flows: Mapping[str, T], name: str) -> str:
    """Return the name of the chosen flow: the given one, else the only one. Raises SettingsError, NotFoundError."""
    if not name and len(flows) > 1:
        raise SettingsError(
            f"the project has {len(flows)} flows", where="flow", remedy=f"Name the one you mean: {', '.join(flows)}."
        )
    name = name or next(iter(flows))
    if name not in flows:
        remedy = f"{did_you_mean(name, flows)}Known here: {', '.join(flows)}."
        raise NotFoundError(f"there is no flow {name!r}", where="flows", remedy=remedy)
    return name


def chosen_or_all(flows: Mapping[str, T], name: str) -> list[str]:
    """Return the name of the given flow, or of every flow where none is given. Raises NotFoundError."""
    return [chosen(flows, name)] if name else list(flows)


async def caught_up(app: App, flow: str, key: str) -> None:
    """Wait until the read model has caught up with the log for this key; warn on stderr after `CATCH_UP_S`."""
    try:
        await reached_end(app, flow, partition_of(key, await app.backend.log.partitions(flow)))
    except UnavailableError:
        remark("the read model is behind the log: this answer may be old. Is a tracker running (choreo run tracker)?")


async def reached_end(app: App, flow: str, partition: int) -> None:
    """Wait until the read model has folded the partition as it is now; raises UnavailableError after `CATCH_UP_S`."""
    end = await app.backend.log.stable_end(flow, partition)
    if end:
        await app.queries.reached(Position(flow, partition, end - 1), CATCH_UP_S)


def _beginning(begun: str, names: Callable[[dict[str, Flow]], list[str]]) -> list[str]:
    """Return the names that begin so; none for a project that cannot be loaded: completion has no place for errors."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            return [name for name in names(declared()) if name.startswith(begun)]
        except Exception:  # noqa: BLE001 - the project's own code may raise anything
            return []


def flow_names(incomplete: str) -> list[str]:
    """Complete a flow."""
    return _beginning(incomplete, list)


def roles(incomplete: str) -> list[str]:
    """Complete a role of a process."""

    def names(flows: dict[str, Flow]) -> list[str]:
        return [
            *(service.name for flow in flows.values() for service in flow.services),
            TRACKER,
            PROJECTOR,
            BRIDGE,
            REST,
        ]

    return _beginning(incomplete, names)


def event_types(incomplete: str) -> list[str]:
    """Complete an event's type."""
    return _beginning(incomplete, lambda flows: [type_ for flow in flows.values() for type_ in flow.event_classes])


_FLOW = "The flow; may be left out where there is only one."

FlowArgument = Annotated[str, typer.Argument(help=_FLOW, autocompletion=flow_names)]
FlowOption = Annotated[str, typer.Option("--flow", help=_FLOW, autocompletion=flow_names)]
KeyArgument = Annotated[str, typer.Argument(help="The instance's business key.")]
RunOption = Annotated[str, typer.Option("--run", help="One run of the key; may be left out.")]
