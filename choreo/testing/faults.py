"""Planned faults: the log, consumers, inboxes and stores of a backend fail, wait, or lose their answers.

    faulty = FaultyBackend(backend)
    fault = faulty.faults.fail("consumer.commit", times=2)

`FaultyBackend` stands in front of any backend and is used in its place. An operation is named by its port and method:
`log.append`, `consumer.poll`, `inbox.begin`, `read_model.instance`, `dead_letters.add`, `projections.save`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from choreo.core.errors import LeaseLostError, StorageError
from choreo.core.events import Envelope, Position
from choreo.ports.log import CommitBatch, Consumer, Log, Poll

Condition = Callable[..., object]
"""Gets the arguments of a call; returns true if the fault meets the call."""
Action = Callable[[], Awaitable[object]]
"""Runs in a call, before the operation itself."""


def unavailable() -> StorageError:
    """Return the error of a store that does not answer."""
    return StorageError("the test has planned that it fails", where="choreo.testing.faults", remedy="Lift the fault.")


class Fault:
    """One planned fault, the calls that it met, and their answers."""

    def __init__(self, times: int | None, when: Condition | None) -> None:
        """Meet `times` calls, all with None; only those for which `when` is true."""
        self.calls: list[tuple[Any, ...]] = []
        self.answers: list[Any] = []
        self._left = times
        self._when = when
        self._lifted = asyncio.Event()
        self._error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Return whether it meets no further call."""
        return self._left == 0 or self._lifted.is_set()

    def lift(self, error: Exception | None = None) -> None:
        """End the fault; calls that it holds go on, or fail with the error."""
        self._error = error
        self._lifted.set()

    def meets(self, arguments: tuple[Any, ...]) -> bool:
        """Return whether it meets this call, and count it."""
        if self.is_over or (self._when is not None and not self._when(*arguments)):
            return False
        if self._left is not None:
            self._left -= 1
        self.calls.append(arguments)
        return True

    async def before(self) -> None:
        """Act before the operation."""

    async def after(self) -> None:
        """Act after the operation, before its answer."""

    async def held(self) -> None:
        """Wait until the fault is lifted; raises the error that it is lifted with."""
        await self._lifted.wait()
        if self._error is not None:
            raise self._error


class _Failing(Fault):
    def __init__(self, times: int | None, when: Condition | None, error: Exception, *, is_done: bool) -> None:
        super().__init__(times, when)
        self._failure = error
        self._is_done = is_done

    async def before(self) -> None:
        """Raise, if the operation must not be done."""
        if not self._is_done:
            raise self._failure

    async def after(self) -> None:
        """Raise, if the operation was done."""
        if self._is_done:
            raise self._failure


class _Holding(Fault):
    def __init__(self, times: int | None, when: Condition | None, *, is_done: bool) -> None:
        super().__init__(times, when)
        self._is_done = is_done

    async def before(self) -> None:
        """Wait, if the operation must be done later."""
        if not self._is_done:
            await self.held()

    async def after(self) -> None:
        """Wait, if the operation is done and its answer comes late."""
        if self._is_done:
            await self.held()


class _Acting(Fault):
    def __init__(self, times: int | None, when: Condition | None, action: Action) -> None:
        super().__init__(times, when)
        self._action = action

    async def before(self) -> None:
        """Do it."""
        await self._action()


class Faults:
    """A plan of faults by operation. A call meets every fault of its operation, in the order of their creation."""

    def __init__(self) -> None:
        self._plan: dict[str, list[Fault]] = {}

    def fail(
        self, operation: str, error: Exception | None = None, *, times: int | None = 1, when: Condition | None = None
    ) -> Fault:
        """Raise the error (a StorageError) instead of the operation."""
        return self._add(operation, _Failing(times, when, error or unavailable(), is_done=False))

    def lose_answer(
        self, operation: str, error: Exception | None = None, *, times: int | None = 1, when: Condition | None = None
    ) -> Fault:
        """Run the operation, then raise the error: the caller does not know that it was done."""
        return self._add(operation, _Failing(times, when, error or unavailable(), is_done=True))

    def hold(self, operation: str, *, times: int | None = None, when: Condition | None = None) -> Fault:
        """Hold calls until the fault is lifted, then run them."""
        return self._add(operation, _Holding(times, when, is_done=False))

    def answer_late(self, operation: str, *, times: int | None = None, when: Condition | None = None) -> Fault:
        """Run the operation at once, and answer when the fault is lifted."""
        return self._add(operation, _Holding(times, when, is_done=True))

    def act(self, operation: str, action: Action, *, times: int | None = 1, when: Condition | None = None) -> Fault:
        """Run an action first: revoke partitions, stop a host, advance a clock."""
        return self._add(operation, _Acting(times, when, action))

    def observe(self, operation: str, *, when: Condition | None = None) -> Fault:
        """Keep calls and answers, without a fault."""
        return self._add(operation, Fault(None, when))

    def wrap(self, name: str, part: Any) -> Any:
        """Return a stand-in for this part of a backend; its operations are `name.method`."""
        return _Part(name, part, self)

    def note(self, operation: str, *arguments: Any) -> None:
        """Record a call that cannot wait or fail."""
        for fault in self._plan.get(operation, ()):
            fault.meets(arguments)

    async def play(self, operation: str, call: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """Make the call with the faults that meet it."""
        met = [fault for fault in self._plan.get(operation, ()) if fault.meets((*arguments, *options.values()))]
        for fault in met:
            await fault.before()
        answer = await call(*arguments, **options)
        for fault in met:
            fault.answers.append(answer)
            await fault.after()
        return answer

    def _add(self, operation: str, fault: Fault) -> Fault:
        self._plan.setdefault(operation, []).append(fault)
        return fault


class _Part:
    """A part of a backend; its async methods meet the faults of their operation."""

    def __init__(self, name: str, part: Any, faults: Faults) -> None:
        self._name = name
        self._part = part
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not inspect.iscoroutinefunction(value):
            return value

        async def call(*arguments: Any, **options: Any) -> Any:
            return await self._faults.play(f"{self._name}.{name}", value, *arguments, **options)

        return call


class FaultyConsumer:
    """`choreo.ports.log.Consumer` in front of another one; it can revoke the other's partitions."""

    def __init__(
        self,
        name: str,
        join: Callable[[], Awaitable[Consumer]],
        inner: Consumer,
        faults: Faults,
        tell_news: Callable[[], None],
    ) -> None:
        """Wrap a consumer. `join` makes another one of the same name; `tell_news` is called after each commit."""
        self.name = name
        self.assigned: set[int] = set()
        """The partitions that its polls have assigned and not revoked."""
        self._join = join
        self._inner: Consumer | None = inner
        self._faults = faults
        self._tell_news = tell_news
        self._revoked: set[int] = set()

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Poll; after `revoke` the first answer has the revoked partitions, and the consumer has joined again."""
        return await self._faults.play("consumer.poll", self._poll, limit, timeout_s)  # type: ignore[no-any-return]

    async def commit(self, work: CommitBatch) -> None:
        """Commit; refused between `revoke` and the poll that reports it."""
        await self._faults.play("consumer.commit", self._commit, work)

    def pause(self, partitions: Sequence[int]) -> None:
        """Pause."""
        self._faults.note("consumer.pause", partitions)
        if self._inner is not None:
            self._inner.pause(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """Resume."""
        self._faults.note("consumer.resume", partitions)
        if self._inner is not None:
            self._inner.resume(partitions)

    async def close(self) -> None:
        """Leave the group."""
        if self._inner is not None:
            await self._inner.close()

    async def revoke(self) -> None:
        """Revoke every partition, as when the lease has expired; others may take them at once."""
        self._revoked |= self.assigned
        self.assigned.clear()
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.close()

    async def _poll(self, limit: int, timeout_s: float) -> Poll:
        inner = self._inner
        if inner is None:
            return await self._lost()
        try:
            poll = await inner.poll(limit, timeout_s)
        except LeaseLostError:
            if self._inner is inner:
                raise
            return await self._lost()
        if self._inner is not inner:
            return await self._lost()
        self.assigned = (self.assigned - set(poll.revoked)) | {assigned.partition for assigned in poll.assigned}
        return poll

    async def _lost(self) -> Poll:
        lost, self._revoked = sorted(self._revoked), set()
        self._inner = await self._join()
        return Poll(revoked=lost)

    async def _commit(self, work: CommitBatch) -> None:
        if self._inner is None:
            raise LeaseLostError(f"partitions {sorted(self._revoked)} are another consumer's", where=self.name)
        await self._inner.commit(work)
        self._tell_news()


class FaultyBackend:
    """A backend with faults between it and its users. Other attributes are the backend's own.

    Use one for each test, on the event loop of the backend.
    """

    def __init__(self, backend: Any) -> None:
        """Wrap any `choreo.ports.backend.Backend`, or a part of one with `log`, `inbox` and so on."""
        self.faults: Faults = Faults()
        self.consumers: list[tuple[str, FaultyConsumer]] = []
        """Every consumer that has joined, with its group."""
        self.backend: Any = backend
        """The wrapped backend."""
        self._waiting: list[asyncio.Future[None]] = []
        self.log: Any = _FaultyLog(backend.log, self)
        self.read_model: Any = self.faults.wrap("read_model", backend.read_model)
        self.dead_letters: Any = self.faults.wrap("dead_letters", backend.dead_letters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def inbox(self, service: str) -> Any:
        """Return the service's inbox."""
        return self.faults.wrap("inbox", self.backend.inbox(service))

    async def check(self) -> None:
        """Check the backend: operation `check`."""
        await self.faults.play("check", self.backend.check)

    async def revoke(self, group: str) -> None:
        """Revoke every partition of this group's consumers; each joins again at its next poll."""
        for name, consumer in self.consumers:
            if name == group:
                await consumer.revoke()

    def assigned(self, consumer: str) -> set[int]:
        """Return the partitions of the consumers of this name."""
        return {number for _, known in self.consumers if known.name == consumer for number in known.assigned}

    def news(self) -> asyncio.Future[None]:
        """Return a future that is done when an event was appended or committed through this backend."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(news)
        return news

    def tell_news(self) -> None:
        """Complete the futures of `news`."""
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():
                news.set_result(None)


class _FaultyLog(_Part):
    """The log; its consumers are faulty, too, and each append or commit completes `news`."""

    def __init__(self, log: Log, backend: FaultyBackend) -> None:
        super().__init__("log", log, backend.faults)
        self._backend = backend

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Append."""
        positions: list[Position] = await self._faults.play("log.append", self._part.append, topic, events)
        self._backend.tell_news()
        return positions

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> FaultyConsumer:
        """Join the group."""

        async def join() -> Consumer:
            joined: Consumer = await self._faults.play("log.consumer", self._part.consumer, topic, group, name, types)
            return joined

        consumer = FaultyConsumer(name, join, await join(), self._faults, self._backend.tell_news)
        self._backend.consumers.append((group, consumer))
        return consumer
