"""What a handler is told besides its event."""

from __future__ import annotations

import msgspec


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
    """Give it to every outside system: it stays the same over all attempts of this effect."""
    undoes: str = ""
    """In a compensation: the idempotency key of the forward attempt, to find or bar it at the gateway."""
    event_id: str = ""
    """Id of the event that is handled."""
    deadline_ms: int = 0
    """When the step is given up."""
    traceparent: str = ""
    """W3C trace context of the trigger, for calls to outside systems."""
