"""A projector running beside a shop's log, on the shop's own clock, for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from choreo.app.tracking.views import attributes_of
from choreo.core.events import Envelope
from choreo.hosts.projector import LOOK_MS, ProjectorHost
from choreo.ports.log import Log
from choreo.ports.projections import Projections
from choreo.ports.read_model import ReadModel
from choreo.testing.clock import VirtualClock
from tests.app.harness import PARTITIONS, OrderPlaced, Shop


class Store(Protocol):
    """The projections that a projector writes, and the read model that shows them."""

    @property
    def projections(self) -> Projections: ...  # noqa: D102 -- the ports describe them
    @property
    def read_model(self) -> ReadModel: ...  # noqa: D102


def projector(
    shop: Shop,
    projections: Projections,
    name: str = "a",
    poll_size: int = 1_000,
    log: Log | None = None,
    look_ms: int = LOOK_MS,
) -> ProjectorHost:
    """Return one of the shop's projectors; `log` stands in front of the shop's."""

    def read(event: Envelope) -> Mapping[str, str]:
        return attributes_of(shop.codec.fields(OrderPlaced, event.content_type, event.data))

    return ProjectorHost(
        shop.table.flow,
        log or shop.backend.log,
        projections,
        shop.clock,
        name=name,
        attributes_of=read,
        look_ms=look_ms,
        poll_size=poll_size,
    )


@asynccontextmanager
async def running(shop: Shop, *hosts: ProjectorHost) -> AsyncIterator[None]:
    """Run these projectors until the block is left."""
    tasks = [asyncio.create_task(host.run()) for host in hosts]
    try:
        yield
    finally:
        for host in hosts:
            await host.stop()
        await until(shop, lambda: all(task.done() for task in tasks))
        await asyncio.gather(*tasks)


async def until(shop: Shop, true: Callable[[], bool]) -> None:
    """Let the shop's time pass until this is so."""
    assert isinstance(shop.clock, VirtualClock)
    while not true():
        await shop.clock.advance(0.01)


async def ends(shop: Shop) -> dict[int, int]:
    """Return where each partition of the log ends, those left out that hold nothing."""
    found = {number: await shop.backend.log.end("order", number) for number in range(PARTITIONS)}
    return {number: end for number, end in found.items() if end}


async def caught_up(shop: Shop, read_model: ReadModel) -> None:
    """Let the shop's time pass until the read model knows all that the log holds."""
    assert isinstance(shop.clock, VirtualClock)
    while await read_model.positions("order") != await ends(shop):
        await shop.clock.advance(0.01)


async def busy(shop: Shop, first: int = 0) -> None:
    """Publish orders of every kind."""
    for number in range(first, first + 3):
        await shop.completed(f"good-{number}")
        await shop.compensated(f"declined-{number}")
        await shop.stuck(f"stuck-{number}")
        await shop.charged(f"open-{number}")
