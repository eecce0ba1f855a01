"""The behaviour of every backend, as suites of tests: one module a port, a class each.

A backend's own tests subclass them and give two fixtures: `backend`, new and empty, and `clock`, the VirtualClock of
that backend; its `lease_s` is LEASE_S.
"""

from __future__ import annotations

from itertools import count, islice
from typing import Protocol

from choreo.core.events import Envelope
from choreo.core.partition import partition_of
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.inbox import Inbox
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel
from choreo.ports.state import StateStore

LEASE_S = 3.0
"""The lease of a backend under test, on its virtual clock."""

TOPIC = "order"


class Backend(Protocol):
    """A log with its stores."""

    @property
    def log(self) -> Log: ...  # noqa: D102 -- documented in the ports
    @property
    def states(self) -> StateStore: ...  # noqa: D102
    @property
    def read_model(self) -> ReadModel: ...  # noqa: D102
    @property
    def dead_letters(self) -> DeadLetters: ...  # noqa: D102
    def inbox(self, service: str) -> Inbox: ...  # noqa: D102


def event(id_: str, key: str = "o-1", type_: str = "OrderPlaced", run: str = "r-1") -> Envelope:
    """Return an event with any content."""
    return Envelope(id=id_, type=type_, key=key, flow=TOPIC, run=run)


def keys_of_partition(partition: int, partitions: int, number: int) -> list[str]:
    """Return keys that lie in one partition."""
    names = (f"o-{suffix}" for suffix in count())
    return list(islice((key for key in names if partition_of(key, partitions) == partition), number))
