"""Hooks around handlers: each attempt of a service with hooks runs inside of them, the first declared outermost.

An error that begins in a hook gets the hook's name; an error of the handler passes through unchanged.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from choreo.core.context import StepContext
from choreo.core.declare.hooks import Call, Hook, hook_name


class HookFailed(Exception):  # noqa: N818 - carries an error of a hook to its report
    """A hook has raised `error`, or did not return the handler's outcome."""

    def __init__(self, hook: str, error: Exception) -> None:
        """Keep the name of the hook and its error."""
        super().__init__(hook)
        self.hook = hook
        self.error = error


class HookMistakeError(Exception):
    """A hook breaks the rule that it returns the outcome of its call."""


def around(hooks: Sequence[Hook], handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler inside of the hooks, as an async function; the handler itself where there are none."""
    if not hooks:
        return handler

    async def wrapped(*arguments: Any) -> Any:
        ctx: StepContext = arguments[-1]

        async def innermost() -> Any:
            value = handler(*arguments)
            return await value if inspect.isawaitable(value) else value

        call: Call = innermost
        for hook in reversed(hooks):
            call = _inside(hook, ctx, call)
        return await call()

    return wrapped


def _inside(hook: Hook, ctx: StepContext, inner: Call) -> Callable[[], Awaitable[Any]]:
    async def call_hook() -> Any:
        passing: list[BaseException] = []
        values: list[Any] = []

        async def call() -> Any:
            if values or passing:
                message = "the hook called the handler twice in one attempt; a retry is the step's: retry=Retry(…)"
                raise HookMistakeError(message)
            try:
                values.append(await inner())
            except BaseException as error:
                passing.append(error)
                raise
            return values[0]

        try:
            returned = await hook(ctx, call)
        except Exception as error:
            # Only the identity tells: an error that the hook has changed is the hook's.
            if any(error is one for one in passing) or isinstance(error, HookFailed):
                raise
            raise HookFailed(hook_name(hook), error) from error
        if returned is None and values != [None]:
            raise HookFailed(hook_name(hook), _mistake(values, passing))
        return returned

    return call_hook


def _mistake(values: list[Any], passing: list[BaseException]) -> HookMistakeError:
    if values:
        return HookMistakeError("the hook returned nothing; write: return await call()")
    if passing:
        return HookMistakeError("the hook caught the handler's error and returned nothing; raise it again")
    return HookMistakeError("the hook did not call its handler; write: return await call()")
