"""One service's inbox in Redis. The scripts write; `inbox_rules` decides which outcomes are published.

The inbox has an id. A lost inbox (FLUSHALL, a server without its file) is detected by its id, and until `linger` has
passed nothing is certain: the attempts that the lost inbox had counted are unknown.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from choreo.adapters import inbox_rules
from choreo.adapters.packed_envelopes import bytes_of, events_of
from choreo.adapters.redis import inbox_scripts as scripts
from choreo.adapters.redis.server import RedisServer
from choreo.adapters.store_errors import LossError
from choreo.core.errors import LeaseLostError, StorageError
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, GateSave, Outcome, RunMark

FORGOTTEN_AT_ONCE = 500
"""Runs that a script forgets: some 5 ms in which the server does nothing else."""

_UNSURE_MAX = 20_000
"""Far more attempts than a host has under way when the server becomes unreachable."""

_MARK_PARTS = 5
_Key = tuple[str, str]
_encode = msgspec.msgpack.Encoder().encode
_numbers = msgspec.msgpack.Decoder(list[int]).decode


class RedisInbox:
    """`choreo.ports.inbox.Inbox` in Redis, and its `InboxIdentity`.

    Every method raises StorageError when the server cannot be used.
    """

    def __init__(
        self,
        server: RedisServer,
        root: str,
        clock: Clock,
        *,
        process: str,
        linger_ms: int,
    ) -> None:
        """Name the process and the inbox: the service's keys begin with `root`.

        `process`: name of this process, the same after a restart. `linger_ms`: how long entries remain after their
        run's end.
        """
        self._server = server
        self._root = root
        self._clock = clock
        self._process = process
        self._linger_ms = linger_ms
        self._numbers = count(1)
        self._memory = ""
        self._loss = "0"
        """Id of the server's last loss that the inbox has noted."""
        self._grace_until_ms = 0
        """Time until which an expired lease is still respected: its holder could not renew it while the server was
        away."""
        self._gated: set[tuple[str, str, int]] = set()
        """(flow, shape, partition) with a stored position, as far as this process knows."""
        self._unsure: dict[_Key, str] = {}
        """Attempts that may have been counted, with their tokens: the next call repeats the token."""

    @property
    def name(self) -> str:
        """Return the id of the inbox, as this process knows it."""
        return self._memory

    async def compare(self, noted: Collection[str]) -> None:
        """Compare the inbox's id with the noted ids and the one known here; create the inbox if there is none."""
        known = {*noted, self._memory} if self._memory else {*noted}
        await self._server.prepare(writes=True)
        loss = self._server.inbox_loss
        self._called(await self._send(scripts.COMPARE, list(known), f"inbox-{secrets.token_hex(8)}", loss))
        self._loss = loss

    async def begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None = None) -> list[AttemptGrant]:
        """Take the slots and count the attempts."""
        if not attempts:
            return []
        lease = lease or AttemptLease("", 0)
        holder = _prefix(lease) or f"{self._process}."
        keys = [(attempt.trigger, attempt.step) for attempt in attempts]
        tokens = [self._unsure.get(key) or f"{holder}{next(self._numbers)}" for key in keys]
        paired = zip(attempts, tokens, strict=True)
        asked = [(a.trigger, a.step, a.run, a.slot, token, a.unmarked) for a, token in paired]
        try:
            memory = self._memory or await self._compared()
            grace_ms = min(lease.lease_ms, max(0, self._grace_until_ms - self._clock.elapsed_ms()))
            numbers, others, name = await self._run(scripts.BEGIN, asked, memory, holder, lease.lease_ms, grace_ms)
        except StorageError:
            self._grace_until_ms = self._clock.elapsed_ms() + lease.lease_ms
            if len(self._unsure) < _UNSURE_MAX:
                self._unsure.update(zip(keys, tokens, strict=True))
            raise
        self._called(name)
        for key in keys:
            self._unsure.pop(key, None)
        answers: list[int | list[bytes]] = [*_numbers(numbers)]
        for place, *noted in others:
            answers[place - 1] = noted
        return [_begun(answer) for answer in answers]

    async def renew(self, keys: Sequence[_Key], lease: AttemptLease) -> None:
        """Renew the leases on these attempts from now on."""
        if keys:
            await self._run(scripts.RENEW, keys, self._memory, _prefix(lease), lease.lease_ms)

    async def recorded(self, keys: Sequence[_Key]) -> dict[_Key, Sequence[Envelope]]:
        """Return the recorded outcomes of these (trigger, step)."""
        if not keys:
            return {}
        commands = [("HMGET", f"{self._root}:row:{step}:{trigger}", "outcome", "certain") for trigger, step in keys]
        rows = zip(keys, await self._server.ask_all(commands), strict=True)
        return {
            key: events_of(outcome, certain=certain == b"1") for key, (outcome, certain) in rows if outcome is not None
        }

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record each outcome unless one is recorded already; return the events to publish."""
        if not outcomes:
            return []
        memory = self._memory or await self._compared()
        asked = [(o.trigger, o.step, o.run, o.certain_if_begun) for o in outcomes]
        recorded_of = (bytes_of(outcome.events) for outcome in outcomes)
        doubtful, counts, existing, name = await self._run(scripts.RECORD, asked, memory, *recorded_of)
        self._called(name)
        if doubtful:
            outcomes = [msgspec.structs.replace(outcome, certain_if_begun=-1) for outcome in outcomes]
        rows: dict[_Key, inbox_rules.Remembered] = {}
        noted = {place - 1: events_of(events, certain=certain == b"1") for place, events, certain in existing}
        for place, (outcome, begun) in enumerate(zip(outcomes, _numbers(counts), strict=True)):
            # A second outcome of the batch for the same row finds the first one there: the rules start from the state
            # before both.
            row = inbox_rules.Remembered(outcome.run, begun, "", noted.get(place))
            rows.setdefault((outcome.trigger, outcome.step), row)
        return inbox_rules.record(outcomes, rows)[0]

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs."""
        if marks:
            asked = [(run, *msgspec.structs.astuple(mark)) for run, mark in marks.items()]
            await self._run(scripts.MARK, asked, self._memory)

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """Return the stored facts about these runs."""
        if not runs:
            return {}
        answers = await self._server.run(scripts.MARKS, [self._root], _encode(list(runs)))
        return {run: _mark(answer) for run, answer in zip(runs, answers, strict=True) if answer is not None}

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the stored gates of these keys; raises LeaseLostError if the stored gates are lost."""
        of_flow = f"{self._root}{_gates(flow, shape)}"
        commands = [("HGET", f"{of_flow}:{key}", "state") for key in keys]
        exists, *states = await self._server.ask_all([("EXISTS", of_flow), *commands])
        if not exists and (lost := [p for f, s, p in self._gated if (f, s) == (flow, shape)]):
            raise _gates_lost(flow, lost)
        return {key: state for key, state in zip(keys, states, strict=True) if state is not None}

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which the stored gates of a partition are true."""
        found = (await self._server.ask_all([("HGET", f"{self._root}{_gates(flow, shape)}", str(partition))]))[0]
        if found is None:
            self._gated.discard((flow, shape, partition))
            return 0
        self._gated.add((flow, shape, partition))
        return int(found)

    async def keep_gates(self, save: GateSave) -> None:
        """Store these gates."""
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
        """Drop entries of runs that ended before this moment; return the number of entries."""
        forgotten: int = 0
        while True:
            runs, entries = await self._server.run(scripts.FORGET, [self._root], before_ms, FORGOTTEN_AT_ONCE)
            forgotten += entries
            if runs < FORGOTTEN_AT_ONCE:
                return forgotten

    async def _run(self, script: str, asked: Sequence[object], name: str, *values: bytes | str | int) -> Any:
        """Run a script; first note a loss of the server in the inbox, if there was one since the last call."""
        await self._server.prepare(writes=True)
        if self._loss != self._server.inbox_loss and self._memory:
            await self.compare(())
        try:
            return await self._send(script, asked, name, *values)
        except LossError:
            await self.compare(())
            return await self._send(script, asked, name, *values)

    async def _send(self, script: str, asked: Sequence[object], name: str, *values: bytes | str | int) -> Any:
        now_ms = self._clock.now_ms()
        return await self._server.run(
            script,
            [self._root],
            now_ms,
            self._linger_ms,
            _encode(asked),
            name,
            *values,
            guarded=script != scripts.COMPARE,
        )

    async def _compared(self) -> str:
        """Return the id of the inbox, where no id has been noted yet."""
        await self.compare(())
        return self._memory

    def _called(self, name: bytes) -> None:
        self._memory = name.decode()


def _begun(answer: int | list[bytes]) -> AttemptGrant:
    """Read the answer of BEGIN for one attempt.

    It is the attempt's number, or, as a negative number, how long another process holds the attempt, or the holder of
    the slot, or an outcome that is certain or not, or a mark.
    """
    if isinstance(answer, int):
        return AttemptGrant(answer) if answer > 0 else AttemptGrant(0, held_ms=-answer)
    if len(answer) == 1:
        return AttemptGrant(0, slot_holder=answer[0].decode())
    if len(answer) == _MARK_PARTS:
        return AttemptGrant(0, mark=_mark(answer))
    return AttemptGrant(0, recorded=events_of(answer[0], certain=answer[1] == b"1"))


def _gates(flow: str, shape: str) -> str:
    return f":gates:{flow}:{shape}"


def _gates_lost(flow: str, partitions: Sequence[int]) -> LeaseLostError:
    return LeaseLostError(
        f"the inbox has lost the gates of partitions {', '.join(map(str, sorted(partitions)))}",
        where=f"flow {flow}",
        remedy="Nothing need be done: they are folded again from the log.",
    )


def _prefix(lease: AttemptLease) -> str:
    """Return the common beginning of all tokens of this holder, and of no other's."""
    return f"{lease.holder}." if lease.holder else ""


def _mark(answer: list[bytes]) -> RunMark:
    compensating, ended_ms, paused, pause_n, stopped_at = answer
    return RunMark(compensating == b"1", ended_ms != b"", paused == b"1", int(pause_n), int(stopped_at))
