"""Handlers that run in processes of their own: they are found there by module and name.

Checks declarations; starts no process.
"""

from __future__ import annotations

import inspect
from typing import Any

from choreo.core.errors import DeclarationError


def require_process(runs_in: str | None, handler: Any, heartbeat_ms: int, where: str) -> bool:
    """Return whether a handler runs in a process; raises DeclarationError on one that cannot."""
    if runs_in is None:
        return False
    if runs_in != "process":
        raise DeclarationError(f"runs_in={runs_in!r}", where=where, remedy='Write runs_in="process", or leave it out.')
    fault, remedy = _fault(handler, heartbeat_ms)
    if fault:
        raise DeclarationError(f'runs_in="process", and {fault}', where=where, remedy=remedy)
    return True


def _fault(handler: Any, heartbeat_ms: int) -> tuple[str, str]:
    if not inspect.isfunction(handler) or "<" in handler.__qualname__:
        return (
            "another process cannot find the handler",
            "Declare a plain def at the top of a module; a process finds it by its name.",
        )
    if inspect.iscoroutinefunction(handler):
        return "the handler is async", "Write a plain def: it has the process for itself."
    if handler.__module__ == "__main__":
        return "the handler is in __main__", "Move the service to a module that can be imported."
    if heartbeat_ms:
        return "the step has heartbeat=", "Leave one of the two out: a process does not report."
    return "", ""
