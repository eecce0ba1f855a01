"""Port of tracing: spans that have ended go in, nothing comes out. A process without tracing has no such object.

Every id is derived, and decided before a span reaches the port: an adapter only translates and sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from choreo.core.trace_ids import SpanId


class Link(NamedTuple):
    """A span that another one refers to without being its child."""

    to: SpanId
    kind: str
    """`cause`, `caller`, `run`, `joins` or `undoes`."""


class Span(NamedTuple):
    """One span, after its end. Times are epoch milliseconds."""

    name: str
    at: SpanId
    service: str
    """Name of the service that it is of."""
    parent: SpanId | None
    links: tuple[Link, ...]
    start_ms: float
    end_ms: float
    attributes: Mapping[str, str | int | bool]
    error: str = ""
    """Kind of the failure; "" of a success."""
    is_attempt: bool = False
    """Whether it processes an event from the log: a consumer's span."""


class Tracing(Protocol):
    """The spans of one process. Every method may be called from any thread, returns at once and never raises."""

    @property
    def gap_ms(self) -> int:
        """Return the wait from which on a new segment begins."""
        ...

    def samples(self, run: str) -> bool:
        """Return whether spans of this run are recorded: all of them, or none."""
        ...

    def export(self, spans: Sequence[Span]) -> None:
        """Send these spans in the background; a collector that is away costs nothing but the spans."""
        ...
