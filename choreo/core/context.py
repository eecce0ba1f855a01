"""The context that a handler gets besides its event."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Protocol

import msgspec

from choreo.core.baggage import BaggageHeader
from choreo.core.errors import ProgressError


class Reported(Protocol):
    """A report of progress on its way to the inbox. Await it, or `wait` for it in a thread, to know that it is safe."""

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until the report is stored."""
        ...

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the report is stored; for a plain handler."""
        ...


class Pulse(Protocol):
    """The connection of a running attempt to its host."""

    @property
    def is_cancelled(self) -> bool:
        """Return whether nobody needs the attempt's outcome any more."""
        ...

    def beat(self, progress: Any) -> Reported:
        """Report that the attempt is alive, and how far it has come."""
        ...


class StepContext(msgspec.Struct, frozen=True):
    """The circumstances of one attempt. Times are epoch milliseconds."""

    flow: str
    key: str
    run: str
    step: str
    """`service.step`."""
    attempt: int
    """1 for the first."""
    idempotency_key: str
    """Pass it to every outside system: it stays the same over all attempts of this effect."""
    undoes: str = ""
    """In a compensation: the idempotency key of the forward attempt, to find or bar it at the gateway."""
    event_id: str = ""
    """Id of the event that triggers the handler."""
    deadline_ms: int = 0
    """Time at which the step is given up."""
    traceparent: str = ""
    """W3C trace context for calls to outside systems: of this attempt's span, without tracing that of the trigger."""
    progress: Any = None
    """In a step with `heartbeat=`: the last report of its attempts, also before a crash; None: there is none."""
    pulse: Pulse | None = None
    """The way of heartbeats; None where the step has no `heartbeat=`."""
    tracestate: str = ""
    """W3C trace state beside `traceparent`."""
    baggage_header: BaggageHeader = msgspec.field(default_factory=BaggageHeader)
    """The header behind `baggage`; its `text` can be sent on to an outside system."""

    @property
    def baggage(self) -> Mapping[str, str]:
        """Return the W3C Baggage of the run, decoded and read-only; empty if there is none."""
        return self.baggage_header.values

    def set_baggage(self, name: str, value: str) -> None:
        """Add a member of the baggage, or replace it: all consequences of this attempt's return carry it.

        An attempt that raises sets nothing. Raises BaggageError on a name or value that the header cannot hold, and
        beyond 64 members or 8,192 bytes.
        """
        self.baggage_header.set(name, value)

    def heartbeat(self, progress: Any = None) -> Reported:
        """Report that this attempt goes on, and its progress: any JSON value of at most 16 KB; None leaves the last.

        The report counts when this is called; `await` it, or `.wait()` in a plain handler, to know that it is stored.
        Raises ProgressError on a value that is too large or not JSON, and in a step without `heartbeat=`.
        """
        if self.pulse is None:
            raise ProgressError(
                "the step has no heartbeat=",
                where=f"step {self.step}",
                remedy='Declare it: @service.step(…, heartbeat="30s"). A unit test may pass pulse= to the context.',
            )
        return self.pulse.beat(progress)

    @property
    def cancelled(self) -> bool:
        """Return whether the run is compensating or terminated: a step with `heartbeat=` may stop early then."""
        return self.pulse is not None and self.pulse.is_cancelled
