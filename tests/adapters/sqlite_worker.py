"""A process of its own for the tests of several processes on one file: joins, works, says what it does on its output.

Usage: sqlite_worker.py FILE GROUP NAME LEASE_S MODE; MODE is `work` (copy every event to type Copied), `freeze` (poll
once, wait for a line on the input, then commit what was polled), `hold` (keep the write lock until killed) or `open`
(make the topic and end).
"""

import asyncio
import sqlite3
import sys

import msgspec

from choreo.adapters.clock import SystemClock
from choreo.adapters.sqlite import SqliteHome
from choreo.core.errors import LeaseLostError
from choreo.core.ids import derive
from choreo.ports.log import Work


def say(*words: object) -> None:
    """One line to the test."""
    print(*words, flush=True)  # noqa: T201 -- the test reads it


async def work(home: SqliteHome, group: str, name: str) -> None:
    """Copy events until killed."""
    member = await home.log.member("order", group, name, frozenset({"OrderPlaced"}))
    owned: set[int] = set()
    while True:
        poll = await member.poll(50, 0.2)
        owned = owned - set(poll.lost) | {gained.partition for gained in poll.gained}
        if poll.gained or poll.lost:
            say("owns", *sorted(owned))
        copies = [msgspec.structs.replace(r.event, id=derive("copy", r.event.id), type="Copied") for r in poll.records]
        if poll.read:
            try:
                await member.commit(Work(copies, poll.read))
            except LeaseLostError:
                say("lost")


async def freeze(home: SqliteHome, group: str, name: str) -> None:
    """Poll, hold still, commit too late."""
    member = await home.log.member("order", group, name)
    poll = await member.poll(50, 0)
    say("polled", len(poll.records))
    sys.stdin.readline()
    try:
        await member.commit(Work([r.event for r in poll.records], poll.read))
    except LeaseLostError:
        say("refused")
    else:
        say("committed")


async def main(path: str, group: str, name: str, lease_s: str, mode: str) -> None:
    """Open and do."""
    home = await SqliteHome.open(path, clock=SystemClock(), lease_s=float(lease_s))
    say("open")
    if mode == "open":
        await home.log.create("order", 4)
        await home.close()
        return
    if mode == "hold":
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO log (topic, partition, key, type) VALUES ('order', 0, 'half', 'Half')")
        say("holds")
        sys.stdin.readline()
    await (work if mode == "work" else freeze)(home, group, name)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
