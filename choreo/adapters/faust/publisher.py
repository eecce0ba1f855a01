"""Publish facts and dead letters until the cluster has taken them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from choreo.core.backoff import Backoff
from choreo.core.errors import StorageError, UnavailableError
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import Log

_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.05, 5.0


class Publisher:
    """Writer of one topic's facts and dead letters. Waits for a cluster that is away, and reports it."""

    def __init__(
        self,
        topic: str,
        log: Log,
        dead_letters: DeadLetters,
        clock: Clock,
        dependencies: Dependencies,
        count: Callable[[str, float], None],
    ) -> None:
        """Publish through `log` and `dead_letters`; `count` adds to a counter."""
        self._topic = topic
        self._log = log
        self._dead_letters = dead_letters
        self._clock = clock
        self._dependencies = dependencies
        self._count = count

    async def facts(self, facts: Sequence[Envelope]) -> None:
        """Publish facts in this order; return when they are acknowledged."""
        if facts:
            await self._until_taken(f"tracker of {self._topic}", lambda: self._log.append(self._topic, facts))

    async def dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; return when they are durable."""
        if dead_letters:
            await self._until_taken(f"dead letters of {self._topic}", lambda: self._dead_letters.add(dead_letters))

    async def _until_taken(self, target: str, write: Callable[[], Awaitable[Any]]) -> None:
        backoff = Backoff(_PAUSE_FIRST_S, _PAUSE_MAX_S)
        while True:
            try:
                await write()
            except (StorageError, UnavailableError) as error:
                report_error(self._dependencies, target, error)
                self._count("storage_errors", 1)
                await self._clock.sleep(backoff.next_s())
            else:
                self._dependencies.clear(target)
                return


async def all_of(*parts: Awaitable[None]) -> None:
    """Do all of them at once; the first error ends the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
