"""The gates of one service's inbox in PostgreSQL.

Positions and gates are written together. If a process knows of stored positions and finds none, they are lost, not new.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.postgres.examination import Connection
from choreo.adapters.postgres.inbox import statements as sql
from choreo.adapters.postgres.schema import id_of
from choreo.adapters.postgres.server import PostgresServer
from choreo.core.errors import LeaseLostError
from choreo.ports.clock import Clock
from choreo.ports.inbox import GateSave


class PostgresGates:
    """The part of `choreo.ports.inbox.Inbox` that stores gates."""

    def __init__(self, server: PostgresServer, service: str, clock: Clock, linger_ms: int) -> None:
        """Name the inbox; `linger_ms`: how long gates remain after the end of their key's last run."""
        self._server = server
        self._service = service
        self._clock = clock
        self._linger_ms = linger_ms
        self._gated: set[tuple[str, str, int]] = set()
        """(flow, shape, partition) with a stored position, as far as this process knows."""

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the stored gates of these keys; raises LeaseLostError if the stored gates are lost."""
        by_id = {id_of(key): key for key in keys}
        place = (self._service, flow, shape)
        rows = await self._server.ask(sql.GATES, (*place, *place, list(by_id)))
        if not any(key is None for key, _ in rows) and (lost := [p for *at, p in self._gated if at == [flow, shape]]):
            raise _gates_lost(flow, lost)
        return {by_id[key]: state for key, state in rows if key is not None}

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which the stored gates of a partition are true."""
        rows = await self._server.ask(sql.GATE_POSITION, (self._service, flow, shape, partition))
        if not rows:
            self._gated.discard((flow, shape, partition))
            return 0
        self._gated.add((flow, shape, partition))
        return int(rows[0][0])

    async def keep_gates(self, save: GateSave) -> None:
        """Store these gates; raises LeaseLostError, and stores none, if the earlier ones are lost."""
        place = (self._service, save.flow, save.shape)
        known = {partition for flow, shape, partition in self._gated if (flow, shape) == (save.flow, save.shape)}
        partitions = sorted(save.positions)
        ends_ms = self._clock.now_ms() + self._linger_ms
        gates = sorted((id_of(key), row) for key, row in save.rows.items())
        columns = (
            [key for key, _ in gates],
            [row.position for _, row in gates],
            [row.state for _, row in gates],
            [ends_ms if row.ended_ms else 0 for _, row in gates],
        )

        async def job(connection: Connection) -> None:
            async with self._server.transaction(connection):
                found = await self._server.execute_in(connection, sql.LOCK_GATE_POSITIONS, *place, partitions)
                lost = known.intersection(partitions) - {partition for (partition,) in await found.fetchall()}
                if lost:
                    raise _gates_lost(save.flow, sorted(lost))
                positions = [save.positions[partition] for partition in partitions]
                await self._server.execute_in(connection, sql.KEEP_GATE_POSITIONS, *place, partitions, positions)
                await self._server.execute_in(connection, sql.KEEP_GATES, *place, *columns)

        await self._server.run(job)
        self._gated.update((save.flow, save.shape, partition) for partition in partitions)


def _gates_lost(flow: str, partitions: Sequence[int]) -> LeaseLostError:
    return LeaseLostError(
        f"the inbox has lost the gates of partitions {', '.join(map(str, sorted(partitions)))}",
        where=f"flow {flow}",
        remedy="Nothing need be done: they are folded again from the log.",
    )
