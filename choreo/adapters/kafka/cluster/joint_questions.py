"""Join equal questions of one moment into one admin request: many flows of a process cost one request.

Where the joint answer is late or an error, each caller asks alone, so that one topic's error delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

LINGER_S = 0.002
"""How long the first question waits for others: flows that work in step ask within one turn of the loop."""
JOINT_S = 1.0
"""How long a joint answer may take before each asks alone; a healthy cluster takes some ten milliseconds."""

Part = TypeVar("Part", bound=Hashable)
Ask = Callable[[Collection[Any]], Mapping[Any, "Future[Any]"]]
"""Sends one question about these parts; returns the answer to come of each."""


class JointQuestions:
    """The questions of one process that are about to be sent."""

    def __init__(self, joint_s: float = JOINT_S) -> None:
        """Wait at most `joint_s` for a joint answer."""
        self._joint_s = joint_s
        self._waiting: dict[Hashable, _Joint] = {}

    async def ask(self, kind: Hashable, parts: Collection[Part], ask: Ask) -> dict[Part, Any] | None:
        """Return the answer to each part; None where one is an error or late. `ask` is the same for all of a kind."""
        joint = self._waiting.get(kind)
        if joint is None or joint.loop is not asyncio.get_running_loop():
            joint = self._waiting[kind] = _Joint()
            joint.loop.call_later(LINGER_S, self._send, kind, joint, ask)
        joint.parts.update(dict.fromkeys(parts))
        try:
            async with asyncio.timeout(self._joint_s):
                await asyncio.shield(joint.answered)
        except TimeoutError:
            return None
        if any(part not in joint.answers for part in parts):
            return None
        return {part: joint.answers[part] for part in parts}

    def _send(self, kind: Hashable, joint: _Joint, ask: Ask) -> None:
        if self._waiting.get(kind) is joint:
            del self._waiting[kind]
        joint.send(ask)


class _Joint:
    """One question, from the first caller until its answer."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.parts: dict[Any, None] = {}
        self.answers: dict[Any, Any] = {}
        """Answers without an error, by part."""
        self.answered: asyncio.Future[None] = self.loop.create_future()
        self._total = 0
        self._heard: set[Any] = set()
        """Parts whose answer has come; several threads add to it."""

    def send(self, ask: Ask) -> None:
        """Send it; its error comes again where callers then ask alone."""
        try:
            futures = ask(list(self.parts))
        except Exception:  # noqa: BLE001 - each asks alone, and raises its own error
            self._done()
            return
        self._total = len(futures)
        for part, future in futures.items():
            future.add_done_callback(partial(self._hear, part))
        if not futures:
            self._done()

    def _hear(self, part: Any, future: Future[Any]) -> None:
        """Take one answer, in the client's thread, or in the loop's if it is there already; the last wakes the loop."""
        if not future.cancelled() and future.exception() is None:
            self.answers[part] = future.result()
        self._heard.add(part)
        if len(self._heard) == self._total and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
