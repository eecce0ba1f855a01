"""The App's use cases for any thread: log and stores belong to the event loop that opened them, handlers run on others.

A call from elsewhere runs on that loop and returns its result. On that loop itself a call costs one check.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from choreo.core.errors import StorageError

_T = TypeVar("_T")
_END = object()


def for_any_loop(part: _T) -> _T:
    """Return a stand-in for the part; its async methods may be awaited on any loop, in any thread.

    The part belongs to the running loop. A plain handler calls `asyncio.run(app.publisher.publish(...))`.
    """
    return cast("_T", _StandIn(part, asyncio.get_running_loop()))


class _StandIn:
    """Passes every call on; each async method is kept as an attribute once it is wrapped."""

    def __init__(self, part: object, loop: asyncio.AbstractEventLoop) -> None:
        self._part = part
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if inspect.iscoroutinefunction(value):
            value = self._method(value)
        elif inspect.isasyncgenfunction(value):
            value = self._iterator(value)
        else:
            return value
        self.__dict__[name] = value
        return value

    def _method(self, method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Awaitable[Any]]:
        def call(*args: Any, **options: Any) -> Awaitable[Any]:
            if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - the public one raises where there is none
                return method(*args, **options)
            return self._brought(method, *args, **options)

        return call

    def _iterator(self, method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def follow(*args: Any, **options: Any) -> AsyncIterator[Any]:
            items = method(*args, **options)
            try:
                while (item := await self._brought(_next, items)) is not _END:
                    yield item
            finally:
                await self._brought(items.aclose)  # type: ignore[attr-defined]

        def call(*args: Any, **options: Any) -> AsyncIterator[Any]:
            here = asyncio._get_running_loop() is self._loop  # noqa: SLF001 - as above
            return method(*args, **options) if here else follow(*args, **options)

        return call

    async def _brought(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        if asyncio.get_running_loop() is self._loop:  # the call was made outside of any loop, and is awaited here
            return await method(*args, **options)
        if self._loop.is_closed():
            raise StorageError("the App is closed", where="this process", remedy="Call it while `open_app` is open.")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(method(*args, **options), self._loop))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)
