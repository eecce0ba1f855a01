"""Session: one host's membership in its group, with the poll that runs beside its other work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.hosts.step.context import HostContext
from choreo.ports.log import Consumer, Poll

IDLE_S = 0.25
"""The longest wait of a poll: a consumer must poll several times within its lease."""


class Wakeup:
    """A signal that there is something to do; it may be set in any thread."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Let the running loop wait for it."""
        self._loop = asyncio.get_running_loop()

    @property
    def has_begun(self) -> bool:
        """Return whether `begin` was called."""
        return self._loop is not None

    def set(self) -> None:
        """End the wait. Call it on the loop."""
        self._event.set()

    def set_threadsafe(self) -> None:
        """End the wait. Call it in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, is_due: Callable[[], bool]) -> None:
        """Wait until it is set, unless something is due already."""
        self._event.clear()
        if not is_due():
            await self._event.wait()


class Session:
    """The consumer of one host, joined when it is needed."""

    def __init__(self, context: HostContext, name: str, poll_size: int, wakeup: Wakeup, idle_s: float = IDLE_S) -> None:
        """Join under `name`, which is unique in the group; set `wakeup` when a poll is over, after `idle_s` at most."""
        self._context = context
        self._name = name
        self._poll_size = poll_size
        self._wakeup = wakeup
        self._idle_s = idle_s
        self._consumer: Consumer | None = None
        self._polling: asyncio.Task[Poll] | None = None

    @property
    def is_open(self) -> bool:
        """Return whether the host is in its group."""
        return self._consumer is not None

    @property
    def has_polled(self) -> bool:
        """Return whether a poll is over and was not taken."""
        return self._polling is not None and self._polling.done()

    async def join(self) -> Consumer:
        """Return the consumer, which joins the group if it is not in it. Raises NotFoundError, StorageError."""
        if self._consumer is None:
            context = self._context
            log, types = context.ports.log, context.handlers.types | context.gates.types
            context.factory.limit(await log.bytes_max(context.topic))
            self._consumer = await log.consumer(context.topic, context.group, self._name, types)
        return self._consumer

    def begin_poll(self, consumer: Consumer) -> asyncio.Task[Poll]:
        """Return the poll that is under way; begin one if there is none."""
        if self._polling is None:
            self._polling = asyncio.create_task(consumer.poll(self._poll_size, self._idle_s))
            self._polling.add_done_callback(lambda _: self._wakeup.set())
        return self._polling

    def polled(self) -> Poll | None:
        """Return the poll that is over, once; None while it waits. Raises its error."""
        if self._polling is None or not self._polling.done():
            return None
        polling, self._polling = self._polling, None
        return polling.result()

    async def close(self) -> None:
        """Leave the group."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait((self._polling,))
            self._polling = None
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.close()
