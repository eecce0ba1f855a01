"""The project a command works on: its settings, its flows, and its storage opened for the time of one call.

Completion of flow and service names stands here too, for it asks the project.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Annotated, TypeVar

import typer

from choreo import settings
from choreo.cli.output import remark
from choreo.core.declare import Flow
from choreo.core.errors import NotFoundError, SettingsError, UnavailableError
from choreo.core.events import Position
from choreo.core.partition import partition_of
from choreo.wiring import PROJECTOR, REST, TRACKER, App, open_app
from choreo.wiring.flows import load_flows

T = TypeVar("T")

CATCH_UP_S = 2.0
"""How long a question waits for the read model: a tracker that runs needs a few milliseconds."""


def in_app(work: Callable[[App], Awaitable[T]]) -> T:
    """Open the project, do this one thing with it, close it."""

    async def opened() -> T:
        async with open_app(settings.load()) as app:
            return await work(app)

    return asyncio.run(opened())


def declared() -> dict[str, Flow]:
    """The project's flows as they are declared, without opening its storage."""
    return load_flows(settings.load().flows)


def chosen(flows: Mapping[str, T], name: str) -> str:
    """The name of the flow that is meant: the one given, else the only one. Raises SettingsError, NotFoundError."""
    if not name and len(flows) > 1:
        raise SettingsError(
            f"the project has {len(flows)} flows", where="flow", remedy=f"Name the one you mean: {', '.join(flows)}."
        )
    name = name or next(iter(flows))
    if name not in flows:
        raise NotFoundError(f"there is no flow {name!r}", where="flows", remedy=f"Known here: {', '.join(flows)}.")
    return name


async def caught_up(app: App, flow: str, key: str) -> None:
    """Wait a moment until the read model knows all that the log holds of this key; warn on stderr if it does not."""
    partition = partition_of(key, await app.home.log.partitions(flow))
    end = await app.home.log.stable_end(flow, partition)
    try:
        if end:
            await app.queries.reached(Position(flow, partition, end - 1), CATCH_UP_S)
    except UnavailableError:
        remark("the read model is behind the log: what follows may be old. Does a tracker run (choreo run tracker)?")


def _beginning(begun: str, names: Callable[[dict[str, Flow]], list[str]]) -> list[str]:
    """Names that begin so. A project that cannot be loaded completes nothing: a shell has no place for its error."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            return [name for name in names(declared()) if name.startswith(begun)]
        except Exception:  # noqa: BLE001 - whatever the project's own code raises
            return []


def flow_names(incomplete: str) -> list[str]:
    """Completes a flow."""
    return _beginning(incomplete, list)


def roles(incomplete: str) -> list[str]:
    """Completes what a process can run."""

    def names(flows: dict[str, Flow]) -> list[str]:
        return [*(service.name for flow in flows.values() for service in flow.services), TRACKER, PROJECTOR, REST]

    return _beginning(incomplete, names)


def event_types(incomplete: str) -> list[str]:
    """Completes an event's type."""
    return _beginning(incomplete, lambda flows: [type_ for flow in flows.values() for type_ in flow.event_classes])


_FLOW = "The flow; may be left out where there is only one."

FlowArgument = Annotated[str, typer.Argument(help=_FLOW, autocompletion=flow_names)]
FlowOption = Annotated[str, typer.Option("--flow", help=_FLOW, autocompletion=flow_names)]
KeyArgument = Annotated[str, typer.Argument(help="The instance's business key.")]
RunOption = Annotated[str, typer.Option("--run", help="One run of the key; may be left out.")]
