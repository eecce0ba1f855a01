"""Handlers of steps with `runs_in="process"`: each call has a worker process for itself, found by module and name.

A worker that dies fails the one attempt that it had, and another takes its place. A call that is cancelled kills its
worker, because nothing else ends the work of a processor.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

WORKERS_MAX = os.cpu_count() or 1
"""Workers at once: more of them only share the processors."""


class WorkerDiedError(Exception):
    """The process that ran the handler has died, for want of memory or by a fault of its native code."""


class _Worker:
    """One process. A pool of one knows which attempt it had when it died."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.pid = 0

    async def call(self, *task: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not self.pid:
            self.pid = await loop.run_in_executor(self.pool, os.getpid)
        return await loop.run_in_executor(self.pool, _called, *task)

    def kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.pool.shutdown(wait=False, cancel_futures=True)


class Processes:
    """The worker processes of this process, made when they are needed."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._room: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def call(self, *task: Any) -> Any:
        """Call a handler in a worker; raises WorkerDiedError if the worker dies meanwhile."""
        loop = asyncio.get_running_loop()
        async with self._room.setdefault(loop, asyncio.Semaphore(WORKERS_MAX)):
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = _Worker()
            try:
                value = await worker.call(*task)
            except BrokenProcessPool as error:
                worker.kill()
                message = "the process of the handler died before it returned"
                raise WorkerDiedError(message) from error
            except asyncio.CancelledError:
                worker.kill()
                raise
            except BaseException:
                self._idle.append(worker)
                raise
            self._idle.append(worker)
            return value


_processes = Processes()


def in_process(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function that calls the handler in a worker process."""
    place = (handler.__module__, handler.__qualname__)

    async def call(*arguments: Any) -> Any:
        value, baggage = await _processes.call(*place, *arguments)
        if baggage is not None:
            arguments[-1].baggage_header.replace(baggage)
        return value

    return call


def _called(module: str, name: str, *arguments: Any) -> Any:
    """Call the handler of a declared step, or the function itself, in a worker; return also the baggage it has set."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    value = getattr(found, "handler", found)(*arguments)
    header = arguments[-1].baggage_header
    return value, header.text if header.is_changed else None
