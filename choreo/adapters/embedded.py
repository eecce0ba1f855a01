"""The common part of the backends without a server: a topic for each flow, one codec, nothing shared.

Knows no store: SQLite and memory add theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.topics_yaml import load_topics
from choreo.core.errors import SettingsError
from choreo.ports.backend import TRACKER, BackendOptions
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel
from choreo.ports.state import StateStore


class Embedded:
    """The methods of `choreo.ports.backend.Backend` that need no server."""

    place: str = "memory"
    lease_s: float
    shares_loop: bool = True
    open_files: int = 0
    log: Log
    states: StateStore
    read_model: ReadModel
    clock: Clock

    def __init__(self, clock: Clock, *, lease_s: float) -> None:
        """Begin without topics; `set_up` creates them."""
        self.roles: Mapping[str, str] = {TRACKER: "log"}
        self.clock = clock
        self.lease_s = lease_s
        self._schemas: Path | None = None
        self._partitions: Mapping[str, int] = {}

    @property
    def deadline_clock(self) -> Clock:
        """Return the clock itself: it stamps the log."""
        return self.clock

    async def set_up(self, options: BackendOptions) -> None:
        """Create the topics that the settings describe. Raises SettingsError, StorageError."""
        topics = load_topics(options.topics) if options.topics.is_dir() else {}
        self._schemas = options.schemas if options.schemas.is_dir() else None
        self._partitions = {
            flow: topics[flow].partitions if flow in topics else options.partitions for flow in options.flows
        }
        await self.create_topics()

    async def create_topics(self) -> None:
        """Create the topics that are missing."""
        for flow, partitions in self._partitions.items():
            await self.log.create(flow, partitions)

    async def codec(self, classes: Iterable[type[Any]]) -> AvroCodec:  # noqa: ARG002 - no registry has to know them
        """Return Avro in single-object encoding."""
        return AvroCodec(self._schemas)

    async def ready(self, stop: asyncio.Event) -> bool:
        """Return whether work may begin: always, because this backend creates its topics."""
        return not stop.is_set()

    async def forget_views(self, flow: str) -> None:
        """Drop states and views."""
        await self.states.drop(flow)
        await self.read_model.drop(flow)

    async def adopt(self, flow: str, *, same_records: bool) -> None:  # noqa: ARG002 - the port's
        """Refuse: no other program can create a topic again here. Raises SettingsError."""
        raise SettingsError("this needs Kafka", where="setting kafka", remedy="Set CHOREO_KAFKA=HOST:PORT.")

    async def discard(self) -> None:
        """Delete nothing: there is no server."""
