"""Fields of log lines: the host and the attempt in which a line is written. Handlers' own lines have them, too.

A host sets `HOST` in its task, a runner sets `ATTEMPT` around each handler; `extra=about(job.event)` names the event
that a single line is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

from choreo.core import trace_ids
from choreo.core.context import StepContext
from choreo.core.events import Envelope

HOST: Final[ContextVar[Mapping[str, str]]] = ContextVar("choreo_host", default=MappingProxyType({}))
ATTEMPT: Final[ContextVar[StepContext | None]] = ContextVar("choreo_attempt", default=None)
EXTRA: Final = "choreo"
"""Attribute of a log record with the fields of its own."""


def about(event: Envelope, step: str = "", attempt: int = 0) -> dict[str, dict[str, Any]]:
    """Return `extra` of a log call about this event."""
    fields = {"flow": event.flow, "key": event.key, "run": event.run, "step": step or event.step}
    return {EXTRA: fields | ({"attempt": attempt} if attempt else {}) | _trace(event.run, event.traceparent)}


def fields_now() -> dict[str, Any]:
    """Return the fields of a line that is written here and now."""
    fields: dict[str, Any] = dict(HOST.get())
    attempt = ATTEMPT.get()
    if attempt is not None:
        fields |= {"flow": attempt.flow, "key": attempt.key, "run": attempt.run, "step": attempt.step}
        fields |= {"attempt": attempt.attempt} | _trace(attempt.run, attempt.traceparent)
    return fields


def _trace(run: str, traceparent: str) -> dict[str, str]:
    """Return the trace of a run: the segment that the header names, else the first one."""
    if not run:
        return {}
    span = trace_ids.read(traceparent)
    if span is not None and trace_ids.is_of_run(span.trace, run):
        return {"trace_id": span.trace, "span_id": span.span}
    return {"trace_id": trace_ids.trace_id(run)}
