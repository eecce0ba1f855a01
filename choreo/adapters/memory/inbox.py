"""One service's inbox in dictionaries; `inbox_rules` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from choreo.adapters import inbox_rules
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, GateRow, GateSave, Outcome, RunMark


class MemoryInbox:
    """`choreo.ports.inbox.Inbox` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.lose()

    def lose(self) -> None:
        """Forget everything, as a lost store does."""
        self._rows: dict[tuple[str, str], inbox_rules.Remembered] = {}
        self._slots: dict[tuple[str, str], str] = {}
        self._marks: dict[str, RunMark] = {}
        self._ended_ms: dict[str, int] = {}
        self._gates: dict[tuple[str, str, str], GateRow] = {}
        self._gate_positions: dict[tuple[str, str, int], int] = {}

    async def begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None = None) -> list[AttemptGrant]:
        """Take the slots and count the attempts."""
        return inbox_rules.begin(attempts, self._rows, self._slots, self._marks, lease, self._clock.elapsed_ms())[0]

    async def renew(self, keys: Sequence[tuple[str, str]], lease: AttemptLease) -> None:
        """Renew the leases on these attempts from now on."""
        inbox_rules.renew(keys, self._rows, lease, self._clock.elapsed_ms())

    async def recorded(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Sequence[Envelope]]:
        """Return the recorded outcomes of these (trigger, step)."""
        rows = {key: self._rows[key] for key in keys if key in self._rows}
        return {key: tuple(row.outcome) for key, row in rows.items() if row.outcome is not None}

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record each outcome unless one is recorded already; return the events to publish."""
        return self.record_now(outcomes)

    def record_now(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record outcomes as `record` does, inside a commit."""
        return inbox_rules.record(outcomes, self._rows)[0]

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs."""
        self.mark_now(marks)

    def mark_now(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs as `mark` does, inside a commit."""
        for run, mark in marks.items():
            self._marks[run] = inbox_rules.merged(self._marks.get(run), mark)
            if mark.ended:
                self._ended_ms.setdefault(run, self._clock.now_ms())

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """Return the stored facts about these runs."""
        return {run: self._marks[run] for run in runs if run in self._marks}

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the stored gates of these keys."""
        rows = {key: self._gates.get((flow, shape, key)) for key in keys}
        return {key: row.state for key, row in rows.items() if row is not None}

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which the stored gates of a partition are true."""
        return self._gate_positions.get((flow, shape, partition), 0)

    async def keep_gates(self, save: GateSave) -> None:
        """Store these gates."""
        self.keep_gates_now(save)

    def keep_gates_now(self, save: GateSave) -> None:
        """Store these gates as `keep_gates` does, inside a commit."""
        for key, row in save.rows.items():
            known = self._gates.get((save.flow, save.shape, key))
            if known is None or row.position >= known.position:
                self._gates[save.flow, save.shape, key] = row
        for partition, position in save.positions.items():
            place = (save.flow, save.shape, partition)
            self._gate_positions[place] = max(position, self._gate_positions.get(place, 0))

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs that ended before this moment; return the number of entries."""
        self._gates = {at: row for at, row in self._gates.items() if not 0 < row.ended_ms < before_ms}
        gone = {run for run, ended_ms in self._ended_ms.items() if ended_ms < before_ms}
        keys = [key for key, row in self._rows.items() if row.run in gone]
        for key in keys:
            del self._rows[key]
        self._slots = {slot: trigger for slot, trigger in self._slots.items() if slot[0] not in gone}
        for run in gone:
            del self._marks[run], self._ended_ms[run]
        return len(keys)
