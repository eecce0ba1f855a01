"""Hooks of a service: async functions that wrap every attempt of its steps and compensations.

Checks declarations; calls no hook.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from choreo.core.context import StepContext
from choreo.core.errors import DeclarationError

Call: TypeAlias = Callable[[], Awaitable[Any]]
"""Calls the handler, or the next hook, and returns its outcome. A hook awaits it."""

Hook: TypeAlias = Callable[[StepContext, Call], Awaitable[Any]]
"""Wraps an attempt: `async def hook(ctx, call)` returns the outcome of `await call()`."""

HookT = TypeVar("HookT", bound=Hook)

FORM = "Write: async def hook(ctx: StepContext, call: Call), and return await call() in it."


def hook_name(hook: object) -> str:
    """Return the name of a hook for people."""
    return str(getattr(hook, "__name__", type(hook).__name__))


def require_hook(hook: Any, known: Sequence[Hook], service: str) -> None:
    """Check that a hook is an async function of two arguments, declared once; raises DeclarationError."""
    where = f"service {service}, around"
    if not callable(hook):
        raise DeclarationError(f"{hook!r} is not callable", where=where, remedy="Decorate a function.")
    where = f"{where} {hook_name(hook)}"
    call = hook if inspect.isroutine(hook) else type(hook).__call__
    if not (inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(call)):
        raise DeclarationError("the hook is not an async function", where=where, remedy=FORM)
    try:
        inspect.signature(hook).bind(None, None)
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"the hook cannot take (ctx, call): {error}", where=where, remedy=FORM) from error
    if hook in known:
        raise DeclarationError("the hook is declared twice", where=where, remedy="Decorate it once.")
