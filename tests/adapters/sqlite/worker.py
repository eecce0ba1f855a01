"""A process of its own for the tests of several processes on one file: joins, works, writes each action to its output.

Usage: worker.py FILE GROUP NAME LEASE_S MODE; MODE is `commit_batch` (copy every event to type Copied), `freeze` (poll
once, wait for a line on the input, then commit the polled records), `hold` (keep the write lock until killed) or `open`
(make the topic and end).
"""

import asyncio
import sqlite3
import sys

import msgspec

from choreo.adapters.clock import SystemClock
from choreo.adapters.sqlite import SqliteBackend
from choreo.core.errors import LeaseLostError
from choreo.core.ids import derive
from choreo.ports.log import CommitBatch


def say(*words: object) -> None:
    """Write one line to the test."""
    print(*words, flush=True)  # noqa: T201 -- the test reads it


async def commit_batch(backend: SqliteBackend, group: str, name: str) -> None:
    """Copy events until killed."""
    consumer = await backend.log.consumer("order", group, name, frozenset({"OrderPlaced"}))
    owned: set[int] = set()
    while True:
        poll = await consumer.poll(50, 0.2)
        owned = owned - set(poll.revoked) | {assigned.partition for assigned in poll.assigned}
        if poll.assigned or poll.revoked:
            say("owns", *sorted(owned))
        copies = [msgspec.structs.replace(r.event, id=derive("copy", r.event.id), type="Copied") for r in poll.records]
        if poll.read:
            try:
                await consumer.commit(CommitBatch(copies, poll.read))
            except LeaseLostError:
                say("lost")


async def freeze(backend: SqliteBackend, group: str, name: str) -> None:
    """Poll, hold still, commit too late."""
    consumer = await backend.log.consumer("order", group, name)
    poll = await consumer.poll(50, 0)
    say("polled", len(poll.records))
    sys.stdin.readline()
    try:
        await consumer.commit(CommitBatch([r.event for r in poll.records], poll.read))
    except LeaseLostError:
        say("refused")
    else:
        say("committed")


async def main(path: str, group: str, name: str, lease_s: str, mode: str) -> None:
    """Open and do."""
    backend = await SqliteBackend.open(path, clock=SystemClock(), lease_s=float(lease_s))
    say("open")
    if mode == "open":
        await backend.log.create("order", 4)
        await backend.close()
        return
    if mode == "hold":
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO log (topic, partition, key, type) VALUES ('order', 0, 'half', 'Half')")
        say("holds")
        sys.stdin.readline()
    await (commit_batch if mode == "work" else freeze)(backend, group, name)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
