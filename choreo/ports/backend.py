"""The backend: the log of one process with its stores, and all that depends on which they are.

An adapter's `backend.py` implements it; `choreo.wiring.backends` chooses one by the settings, and no code above it
depends on the choice. A log on a server keeps inboxes and read model in `Stores` (`stores.py`), on another server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from choreo.core.definition import FlowDefinition
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies
from choreo.ports.inbox import Inbox, InboxIdentity
from choreo.ports.log import Log
from choreo.ports.notes import Notes
from choreo.ports.projections import Projections
from choreo.ports.read_model import ReadModel
from choreo.ports.state import StateStore

TRACKER = "tracker"
PROJECTOR = "projector"


class StoredInbox(Inbox, InboxIdentity, Protocol):
    """An inbox that may be lost while the log stays."""


class Stores(Protocol):
    """Inboxes and read model on a server beside the log. Nothing connects before it is used."""

    @property
    def read_model(self) -> ReadModel:
        """Return the read model of every flow."""
        ...

    @property
    def projections(self) -> Projections:
        """Return the writer's side of `read_model`."""
        ...

    @property
    def notes(self) -> Notes:
        """Return the notes of the installation."""
        ...

    def inbox(self, service: str) -> StoredInbox:
        """Return the service's inbox."""
        ...

    async def recall(self, topic: str, note: str) -> str:
        """Return the first note kept of the topic of views and outcomes; keep `note` if there is none."""
        ...

    async def remembered(self, topic: str) -> str:
        """Return the note kept of the topic; "" if there is none."""
        ...

    async def remember(self, topic: str, note: str) -> None:
        """Replace the note of the topic."""
        ...

    async def forget(self, topic: str, services: Iterable[str]) -> None:
        """Drop the topic's views, and everything in the inboxes of these services, of other topics too."""
        ...

    async def check(self) -> None:
        """Examine the server and report whether it can be used. Raises StorageError, SettingsError."""
        ...

    async def clear(self) -> None:
        """Remove everything that this installation keeps there."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class OpenStores(Protocol):
    """Opens the stores that the settings name. Raises SettingsError on an invalid address."""

    def __call__(self, log: Log, clock: Clock, *, linger_ms: int, prefix: str, dependencies: Dependencies) -> Stores:
        """Open the stores. `linger_ms`: the longest time a flow keeps an ended run. `prefix` names the installation."""
        ...


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a process as far as backends need them."""

    address: str
    """Value of the setting that chose the backend."""
    flows: Mapping[str, FlowDefinition]
    clock: Clock
    dependencies: Dependencies
    put: Callable[[str, float], None]
    """Shows a number on /metrics."""
    environment: Mapping[str, str]
    topics: Path
    schemas: Path
    data: Path
    partitions: int
    lease_s: float
    synchronous: str
    open_stores: OpenStores | None
    """None where the settings name no stores."""


class Backend(Protocol):
    """An opened backend. It belongs to one event loop."""

    place: str
    """Place of the log, for people; without secrets."""
    roles: Mapping[str, str]
    """Roles that run beside the services, with the kind of host that each takes; the last one fills the read model."""
    lease_s: float
    """How long a process that no longer answers keeps its partitions, and the attempts it began."""
    shares_loop: bool
    """Whether reads and work share one thread and one file, so that long lists have to give way."""
    open_files: int
    """The number of files that a process may need at most; 0 where it needs few."""

    @property
    def log(self) -> Log:
        """Return the log of every flow."""
        ...

    @property
    def read_model(self) -> ReadModel:
        """Return the read model of every flow."""
        ...

    @property
    def dead_letters(self) -> DeadLetters:
        """Return the dead letters of every flow."""
        ...

    @property
    def notes(self) -> Notes:
        """Return the notes of the installation: plans and progress of batches."""
        ...

    @property
    def clock(self) -> Clock:
        """Return the clock of this process, kept within the log's time."""
        ...

    @property
    def deadline_clock(self) -> Clock:
        """Return the clock that decides, before work begins, whether a deadline has passed."""
        ...

    def inbox(self, service: str) -> Inbox:
        """Return the service's inbox."""
        ...

    async def codec(self, classes: Iterable[type[Any]]) -> Codec:
        """Return the codec of these event classes. Raises SchemaError, SettingsError, StorageError."""
        ...

    async def create_topics(self) -> None:
        """Create the topics of the flows that are missing. Raises SettingsError, StorageError."""
        ...

    async def ready(self, stop: asyncio.Event) -> bool:
        """Wait until the topics are fit for work; return False once `stop` is set. Raises SettingsError."""
        ...

    async def forget_views(self, flow: str) -> None:
        """Drop everything that a fold of the log makes again, in the order that is safe to interrupt."""
        ...

    async def adopt(self, flow: str, *, same_records: bool) -> None:
        """Adopt the flow's present topic as its log: started anew, or with the records that it had.

        Raises ConflictError where a role of the flow is at work, SettingsError where the backend has no such topics.
        """
        ...

    async def discard(self) -> None:
        """Delete everything that this installation keeps on shared servers; files are left to their owner.

        Raises SettingsError where the installation has no prefix of its own.
        """
        ...

    async def check(self) -> None:
        """Send each server a small request, so that each condition is reported or cleared.

        Raises StorageError, or LostStorageError and SettingsError where the process has to end.
        """
        ...

    async def close(self) -> None:
        """Write pending data, and close files and connections."""
        ...


class StatefulBackend(Backend, Protocol):
    """A backend that keeps the tracker's states in the transaction of its commits: host kind `log`."""

    @property
    def states(self) -> StateStore:
        """Return the tracker's states."""
        ...


class ProjectedBackend(Backend, Protocol):
    """A backend with a projector that fills its read model: host kind `projector`."""

    @property
    def projections(self) -> Projections:
        """Return the writer's side of the read model."""
        ...
