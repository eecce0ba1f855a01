"""The admin client of one user: made when needed, replaced when outdated; its equal questions are joined.

A client that is refused reports the refusal in its error callback; its requests only time out, or find no broker. Many
flows of a process ask the same at the same moment, which costs one request. Where the joint answer is late or an error,
each caller asks alone, so that one topic's error delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.errors import ALL_DOWN, DENIED, complaint
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import ChoreoError

LINGER_S = 0.002
"""How long the first question waits for others: flows that work in step ask within one turn of the loop."""
JOINT_S = 1.0
"""How long a joint answer may take before each asks alone; a healthy cluster takes some ten milliseconds."""

Part = TypeVar("Part", bound=Hashable)
Ask = Callable[[Collection[Any]], Mapping[Any, "Future[Any]"]]
"""Sends one question about these parts; returns the answer to come of each."""


class Admin:
    """An admin client, and the errors that it has reported."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect to nothing yet."""
        self._options = options
        self._made: AdminClient | None = None
        self.denied: KafkaError | None = None
        """The reason why the cluster refuses the client, as far as it is known."""

    @property
    def client(self) -> AdminClient:
        """Return the client.

        Keep a reference until it has answered: it may be replaced. Raises SettingsError, StorageError.
        """
        if self._made is None:
            try:
                config: dict[str, Any] = {**self._options.admin(), "error_cb": self._note_denied}
                self._made = AdminClient(config)
            except KafkaException as error:
                raise complaint(error, self._options, "the admin client") from error
        return self._made

    def replace(self) -> None:
        """Let the next call make a client anew: this one never asks again for the leaders of partitions."""
        self._made = None

    def complaint(self, client: AdminClient, error: BaseException, where: str) -> ChoreoError:
        """Return the error to raise for one of this client's errors."""
        client.poll(0)  # runs the error callback
        return complaint(self.denied or error, self._options, where)

    def _note_denied(self, error: KafkaError) -> None:
        if error.code() in DENIED:
            self.denied = error
        elif error.code() != ALL_DOWN:  # librdkafka reports ALL_DOWN after every refusal too
            self.denied = None


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
