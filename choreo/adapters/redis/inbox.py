"""One service's inbox in Redis. The scripts write; what is published is decided by `inbox_rules`.

A memory that was lost (FLUSHALL, a server without its file) is noticed, by its name, and until `linger` has passed
nothing is certain: what it had counted before nobody knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from choreo.adapters import inbox_rules
from choreo.adapters.redis import inbox_scripts as scripts
from choreo.adapters.redis.envelopes import bytes_of, events_of
from choreo.adapters.redis.server import LossError, RedisServer
from choreo.core.errors import LeaseLostError, StorageError
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import Begin, Begun, GateSave, Hold, Outcome, RunMark

FORGOTTEN_AT_ONCE = 500
"""Runs a script forgets: some 5 ms in which the server does nothing else."""

_UNSURE_MAX = 20_000
"""Far more attempts than a host has in hand when the server goes away."""

_MARK_PARTS = 5
_Key = tuple[str, str]
_encode = msgspec.msgpack.Encoder().encode
_numbers = msgspec.msgpack.Decoder(list[int]).decode


class RedisInbox:
    """`choreo.ports.inbox.Inbox` in Redis, and its `Memory`. Everything raises StorageError where it cannot be used."""

    def __init__(
        self,
        server: RedisServer,
        root: str,
        clock: Clock,
        *,
        process: str,
        linger_ms: int,
    ) -> None:
        """`root`: the service's keys begin so. `process` names this one, over restarts too.

        `linger_ms`: how long entries outlive their run's end.
        """
        self._server = server
        self._root = root
        self._clock = clock
        self._process = process
        self._linger_ms = linger_ms
        self._numbers = count(1)
        self._memory = ""
        self._loss = "0"
        """The server's last loss that the memory was told of."""
        self._patient_until_ms = 0
        """Until then a lapsed hold is respected: whoever has it could not renew it while the server was away."""
        self._gated: set[tuple[str, str, int]] = set()
        """(flow, shape, partition) of which this process knows that a position is kept."""
        self._unsure: dict[_Key, str] = {}
        """Attempts of which it is unknown whether they were counted, with their tokens: the next call says the same."""

    @property
    def name(self) -> str:
        """The memory's name, as this process knows it."""
        return self._memory

    async def meet(self, said: Collection[str]) -> None:
        """Compare the memory with what was said of it, and with what this process knew; make it if there is none."""
        known = {*said, self._memory} if self._memory else {*said}
        await self._server.prepare(writes=True)
        loss = self._server.inbox_loss
        self._called(await self._send(scripts.MEET, list(known), f"inbox-{secrets.token_hex(8)}", loss))
        self._loss = loss

    async def begin(self, attempts: Sequence[Begin], hold: Hold | None = None) -> list[Begun]:
        """Take the slots and count the attempts."""
        if not attempts:
            return []
        hold = hold or Hold("", 0)
        holder = _prefix(hold) or f"{self._process}."
        keys = [(attempt.trigger, attempt.step) for attempt in attempts]
        tokens = [self._unsure.get(key) or f"{holder}{next(self._numbers)}" for key in keys]
        paired = zip(attempts, tokens, strict=True)
        asked = [(a.trigger, a.step, a.run, a.slot, token, a.unmarked) for a, token in paired]
        try:
            memory = self._memory or await self._met()
            patience_ms = min(hold.lease_ms, max(0, self._patient_until_ms - self._clock.elapsed_ms()))
            numbers, others, name = await self._run(scripts.BEGIN, asked, memory, holder, hold.lease_ms, patience_ms)
        except StorageError:
            self._patient_until_ms = self._clock.elapsed_ms() + hold.lease_ms
            if len(self._unsure) < _UNSURE_MAX:
                self._unsure.update(zip(keys, tokens, strict=True))
            raise
        self._called(name)
        for key in keys:
            self._unsure.pop(key, None)
        answers: list[int | list[bytes]] = [*_numbers(numbers)]
        for place, *said in others:
            answers[place - 1] = said
        return [_begun(answer) for answer in answers]

    async def renew(self, keys: Sequence[_Key], hold: Hold) -> None:
        """Hold these from now."""
        if keys:
            await self._run(scripts.RENEW, keys, self._memory, _prefix(hold), hold.lease_ms)

    async def recorded(self, keys: Sequence[_Key]) -> dict[_Key, Sequence[Envelope]]:
        """The recorded outcomes of these (trigger, step)."""
        if not keys:
            return {}
        commands = [("HMGET", f"{self._root}:row:{step}:{trigger}", "outcome", "certain") for trigger, step in keys]
        rows = zip(keys, await self._server.ask_all(commands), strict=True)
        return {
            key: events_of(outcome, certain=certain == b"1") for key, (outcome, certain) in rows if outcome is not None
        }

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Write each outcome unless one stands; returns the events to publish."""
        if not outcomes:
            return []
        memory = self._memory or await self._met()
        asked = [(o.trigger, o.step, o.run, o.certain_if_begun) for o in outcomes]
        said_of = (bytes_of(outcome.events) for outcome in outcomes)
        doubtful, counts, standing, name = await self._run(scripts.RECORD, asked, memory, *said_of)
        self._called(name)
        if doubtful:
            outcomes = [msgspec.structs.replace(outcome, certain_if_begun=-1) for outcome in outcomes]
        rows: dict[_Key, inbox_rules.Remembered] = {}
        said = {place - 1: events_of(events, certain=certain == b"1") for place, events, certain in standing}
        for place, (outcome, begun) in enumerate(zip(outcomes, _numbers(counts), strict=True)):
            # A second outcome of the batch for the same row finds the first one there: the rules begin before both.
            row = inbox_rules.Remembered(outcome.run, begun, "", said.get(place))
            rows.setdefault((outcome.trigger, outcome.step), row)
        return inbox_rules.record(outcomes, rows)[0]

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Remember what was read about runs."""
        if marks:
            asked = [(run, *msgspec.structs.astuple(mark)) for run, mark in marks.items()]
            await self._run(scripts.MARK, asked, self._memory)

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """What was read about these runs."""
        if not runs:
            return {}
        answers = await self._server.run(scripts.MARKS, [self._root], _encode(list(runs)))
        return {run: _mark(answer) for run, answer in zip(runs, answers, strict=True) if answer is not None}

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the kept gates of these keys; raises LeaseLostError where all that was kept is lost."""
        of_flow = f"{self._root}{_gates(flow, shape)}"
        commands = [("HGET", f"{of_flow}:{key}", "state") for key in keys]
        exists, *states = await self._server.ask_all([("EXISTS", of_flow), *commands])
        if not exists and (lost := [p for f, s, p in self._gated if (f, s) == (flow, shape)]):
            raise _gates_lost(flow, lost)
        return {key: state for key, state in zip(keys, states, strict=True) if state is not None}

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which a partition's gates are kept."""
        found = (await self._server.ask_all([("HGET", f"{self._root}{_gates(flow, shape)}", str(partition))]))[0]
        if found is None:
            self._gated.discard((flow, shape, partition))
            return 0
        self._gated.add((flow, shape, partition))
        return int(found)

    async def keep_gates(self, save: GateSave) -> None:
        """Keep these gates."""
        places = {partition: (save.flow, save.shape, partition) for partition in save.positions}
        positions = [(p, position, places[p] in self._gated) for p, position in save.positions.items()]
        rows = [(key, row.position, row.ended_ms > 0) for key, row in save.rows.items()]
        asked, states = _encode([positions, rows]), [row.state for row in save.rows.values()]
        name = _gates(save.flow, save.shape)
        lost = await self._server.run(scripts.KEEP_GATES, [self._root], name, self._linger_ms, asked, *states)
        if lost:
            raise _gates_lost(save.flow, lost)
        self._gated.update(places.values())

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs marked ended before this moment; returns how many entries."""
        forgotten: int = 0
        while True:
            runs, entries = await self._server.run(scripts.FORGET, [self._root], before_ms, FORGOTTEN_AT_ONCE)
            forgotten += entries
            if runs < FORGOTTEN_AT_ONCE:
                return forgotten

    async def _run(self, script: str, asked: Sequence[object], name: str, *values: bytes | str | int) -> Any:
        """Run a script; first tell the memory of a loss of the server, if there was one since the last call."""
        await self._server.prepare(writes=True)
        if self._loss != self._server.inbox_loss and self._memory:
            await self.meet(())
        try:
            return await self._send(script, asked, name, *values)
        except LossError:
            await self.meet(())
            return await self._send(script, asked, name, *values)

    async def _send(self, script: str, asked: Sequence[object], name: str, *values: bytes | str | int) -> Any:
        now_ms = self._clock.now_ms()
        return await self._server.run(
            script, [self._root], now_ms, self._linger_ms, _encode(asked), name, *values, guarded=script != scripts.MEET
        )

    async def _met(self) -> str:
        """The memory's name, where nobody has said anything of it."""
        await self.meet(())
        return self._memory

    def _called(self, name: bytes) -> None:
        self._memory = name.decode()


def _begun(answer: int | list[bytes]) -> Begun:
    """A number, how long another holds it as a negative one, who has the slot, a certain or other outcome, a mark."""
    if isinstance(answer, int):
        return Begun(answer) if answer > 0 else Begun(0, held_ms=-answer)
    if len(answer) == 1:
        return Begun(0, slot_holder=answer[0].decode())
    if len(answer) == _MARK_PARTS:
        return Begun(0, mark=_mark(answer))
    return Begun(0, recorded=events_of(answer[0], certain=answer[1] == b"1"))


def _gates(flow: str, shape: str) -> str:
    return f":gates:{flow}:{shape}"


def _gates_lost(flow: str, partitions: Sequence[int]) -> LeaseLostError:
    return LeaseLostError(
        f"the inbox has lost the gates of partitions {', '.join(map(str, sorted(partitions)))}",
        where=f"flow {flow}",
        remedy="Nothing need be done: they are folded again from the log.",
    )


def _prefix(hold: Hold) -> str:
    """What the tokens of a holder begin with, and no other's."""
    return f"{hold.holder}." if hold.holder else ""


def _mark(answer: list[bytes]) -> RunMark:
    turned, ended_ms, paused, pause_n, stopped_at = answer
    return RunMark(turned == b"1", ended_ms != b"", paused == b"1", int(pause_n), int(stopped_at))
