"""Parts that only the SQLite backend has: its transactions, its file, and foreign rows in it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from choreo.adapters.sqlite import SqliteBackend
from choreo.adapters.sqlite.schema import VERSION
from choreo.app.dependencies import DependencyReports
from choreo.core import facts
from choreo.core.errors import LeaseLostError, SettingsError, StorageError
from choreo.core.events import Envelope
from choreo.ports.inbox import AttemptGrant, AttemptRequest, Outcome, RunMark
from choreo.ports.log import CommitBatch
from choreo.ports.state import StateRow
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, event
from tests.adapters.sqlite.test_upgrade import WITHOUT_PLACES


@pytest.fixture
def clock() -> VirtualClock:
    """Time stands still."""
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the backend's file."""
    return tmp_path / "data" / "choreo.db"


@pytest.fixture
async def backend(path: Path, clock: VirtualClock) -> AsyncIterator[SqliteBackend]:
    """Yield a backend with a topic of one partition."""
    opened = await SqliteBackend.open(path, clock=clock, lease_s=LEASE_S)
    await opened.log.create("order", 1)
    yield opened
    await opened.close()


async def test_what_is_wanted_in_one_turn_is_one_transaction(backend: SqliteBackend) -> None:
    """Commits of several consumers, appends and inbox writes share one flush to the disk."""
    consumers = [await backend.log.consumer("order", group, "a") for group in ("payment", "shipping", "inventory")]
    for consumer in consumers:
        await consumer.poll(10, 0)
    before = backend.writer.transactions
    await asyncio.gather(
        *(consumer.commit(CommitBatch([event(f"e-{n}")], {0: 1})) for n, consumer in enumerate(consumers)),
        backend.log.append("order", [event("e-3")]),
        backend.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1")]),
        backend.inbox("payment").mark({"r-1": RunMark(compensating=True)}),
    )
    assert backend.writer.transactions == before + 1
    assert [record.offset for record in await backend.log.read("order", 0, 0, 10)] == [0, 1, 2, 3]


async def test_one_that_fails_is_left_out_and_the_others_are_written(
    backend: SqliteBackend, clock: VirtualClock
) -> None:
    """A lost lease, and a number that SQLite cannot hold, after half of its commit was written."""
    zombie = await backend.log.consumer("order", "payment", "a")
    await zombie.poll(10, 0)
    await clock.advance(LEASE_S * 2)
    successor = await backend.log.consumer("order", "payment", "b")
    await successor.poll(10, 0)
    too_large = StateRow("order", 0, "o-1", 2**80, b"")
    results = await asyncio.gather(
        backend.log.append("order", [event("e-1")]),
        zombie.commit(CommitBatch([event("e-2")], {0: 1})),
        successor.commit(CommitBatch([event("e-3")], {0: 1}, states=[too_large])),
        backend.log.append("order", [event("e-4")]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [list, LeaseLostError, StorageError, list]
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 10)] == ["e-1", "e-4"]


async def test_a_writer_that_is_cancelled_before_its_turn_has_written_nothing(backend: SqliteBackend) -> None:
    """And keeps nobody else from writing."""
    gone = asyncio.ensure_future(backend.log.append("order", [event("e-1")]))
    stays = asyncio.ensure_future(backend.log.append("order", [event("e-2")]))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 10)] == ["e-2"]


async def test_a_full_disk_is_said_and_survived(backend: SqliteBackend) -> None:
    """Nothing is half written, reading goes on, and with space again so does writing."""
    connection = backend.database.connection
    await backend.log.append("order", [event("e-1")])
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    large = [event(f"big-{n}", run="x" * 4_000) for n in range(100)]
    with pytest.raises(StorageError, match=r"choreo.db: the disk is full .* Free some space"):
        await backend.log.append("order", large)
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 200)] == ["e-1"]
    connection.execute("PRAGMA max_page_count = 1000000")
    (position,) = await backend.log.append("order", [event("e-2")])
    assert position.offset == 1
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 200)] == ["e-1", "e-2"]


async def test_a_file_that_cannot_be_written_is_said(backend: SqliteBackend) -> None:
    """With the path and the remedy."""
    backend.database.connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError, match=r"choreo.db: the file cannot be written"):
        await backend.log.append("order", [event("e-1")])


async def test_a_file_that_cannot_be_used_is_reported_until_it_can(path: Path, clock: VirtualClock) -> None:
    """Full or locked by another program; a process that only reads learns by a check that it is free again."""
    reports = DependencyReports(clock)
    backend = await SqliteBackend.open(path, clock=clock, dependencies=reports, lock_timeout_s=0.05)
    await backend.log.create("order", 1)
    connection = backend.database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError):
        await backend.log.append("order", [event(f"big-{n}", run="x" * 4_000) for n in range(100)])
    assert [(one.name, one.remedy.split(":")[0]) for one in reports.all()] == [("database", "Free some space")]
    connection.execute("PRAGMA max_page_count = 1000000")
    await backend.check()
    assert reports.all() == []
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError):
            await backend.log.append("order", [event("e-1")])
        assert [one.cause.rpartition(": ")[2] for one in reports.all()] != []
    other.close()
    await backend.check()
    assert reports.all() == []
    await backend.close()


async def test_what_is_open_is_there_after_a_restart(path: Path, backend: SqliteBackend, clock: VirtualClock) -> None:
    """The file is all there is."""
    await backend.log.append("order", [event("e-1")])
    other = await SqliteBackend.open(path, clock=clock)
    assert [record.event.id for record in await other.log.read("order", 0, 0, 10)] == ["e-1"]
    await other.close()


async def test_a_file_of_the_version_before_is_upgraded(
    path: Path, backend: SqliteBackend, clock: VirtualClock
) -> None:
    """Marks of runs are kept; the place where a run was stopped was not recorded then."""
    await backend.inbox("payment").mark({"r-1": RunMark(compensating=True, stopped_at=7)})
    await backend.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f"{WITHOUT_PLACES} DROP INDEX instances_by_flow;"
            "DROP INDEX instances_by_key; DROP INDEX dead_letters_by_topic;"
            "DROP TRIGGER instance_added; DROP TRIGGER instance_moved; DROP TRIGGER instance_removed;"
            "DROP TABLE notes; DROP TABLE instance_counts; DROP TABLE gates; DROP TABLE gate_positions;"
            "ALTER TABLE marks DROP COLUMN stopped_at; DROP INDEX states_pending;"
            "ALTER TABLE marks RENAME COLUMN compensating TO turned; ALTER TABLE memberships RENAME TO seats;"
            "ALTER TABLE partitions RENAME COLUMN partition_id TO lane; ALTER TABLE partitions RENAME TO lanes;"
            "ALTER TABLE dead_letters RENAME TO letters; ALTER TABLE states RENAME COLUMN unacknowledged TO unsaid;"
            "CREATE INDEX states_due ON states (topic, partition, due_ms) WHERE due_ms > 0;"
            "CREATE INDEX states_unsaid ON states (topic, partition, key) WHERE unsaid;"
            "UPDATE meta SET value = 2 WHERE name = 'schema_version'"
        )
    other = await SqliteBackend.open(path, clock=clock)
    inbox = other.inbox("payment")
    await inbox.mark({"r-1": RunMark(compensating=True, stopped_at=9), "r-2": RunMark(compensating=True, stopped_at=9)})
    assert await inbox.marks(["r-1", "r-2"]) == {
        "r-1": RunMark(compensating=True),
        "r-2": RunMark(compensating=True, stopped_at=9),
    }
    await other.close()


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("CREATE TABLE mine (x)", "database of another program"),
        ("CREATE TABLE meta (name, value); CREATE TABLE partitions (x)", "schema version None"),
        (
            "CREATE TABLE meta (name, value); CREATE TABLE lanes (x); INSERT INTO meta VALUES ('schema_version', 99)",
            f"schema version 99; this choreo knows version {VERSION}",
        ),
    ],
)
async def test_a_database_that_is_not_ours_is_left_alone(
    tmp_path: Path, clock: VirtualClock, sql: str, says: str
) -> None:
    """It is refused with its version, and not a table is added to it."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(sql)
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    with pytest.raises(StorageError, match=says):
        await SqliteBackend.open(path, clock=clock)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == tables


async def test_what_is_no_file_of_ours_is_said(tmp_path: Path, clock: VirtualClock) -> None:
    """A text file, a folder, a path through a file, a pipe, links in a circle; an unknown way to synchronise."""
    (tmp_path / "text").write_text("this is not a database, but it is long enough to have a header " * 10)
    cases = {"text": "no SQLite database", ".": "cannot be opened", "text/choreo.db": "folder cannot be made"}
    for name, says in cases.items():
        with pytest.raises(StorageError, match=says):
            await SqliteBackend.open(tmp_path / name, clock=clock)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "device").symlink_to("/dev/null")
    no_path = "it is no path of a file"
    odd = {
        "pipe": "a device, a pipe or a socket",
        "device": "a device",
        "circle": no_path,
        "a\0b": no_path,
        "x" * 300: no_path,
    }
    for name, says in odd.items():
        with pytest.raises(StorageError, match=says) as refused:
            await SqliteBackend.open(tmp_path / name, clock=clock)
        assert refused.value.remedy
    with pytest.raises(SettingsError, match="Choose FULL or NORMAL"):
        await SqliteBackend.open(tmp_path / "a.db", clock=clock, synchronous="OFF")  # type: ignore[arg-type]


def damage(path: Path) -> None:
    """Overwrite every page but the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


async def test_a_damaged_file_is_said_and_not_written(path: Path, clock: VirtualClock) -> None:
    """Every page but the first overwritten: reading the log reports damage, with the remedy."""
    backend = await SqliteBackend.open(path, clock=clock)
    await backend.log.create("order", 1)
    await backend.log.append("order", [event(f"e-{n}") for n in range(500)])
    await backend.close()
    damage(path)
    with pytest.raises(StorageError, match=r"the file is damaged .*\.recover"):
        await SqliteBackend.open(path, clock=clock)


@pytest.fixture
def foreign(path: Path, backend: SqliteBackend) -> sqlite3.Connection:
    """Return another program's connection to the backend's file."""
    return sqlite3.connect(path, isolation_level=None)


async def test_another_program_may_publish_through_the_view(
    backend: SqliteBackend, foreign: sqlite3.Connection
) -> None:
    """Key, type and value are enough; it gets the next offset and a stamp that does not go back."""
    await backend.log.append("order", [event("e-1")])
    consumer = await backend.log.consumer("order", "payment", "a")
    await consumer.poll(10, 0)
    foreign.execute("INSERT INTO log (topic, partition, key, type, data) VALUES ('order', 0, 'o-2', 'Paid', x'7b7d')")
    await backend.log.append("order", [event("e-3")])
    poll = await consumer.poll(10, 5)
    assert [(r.offset, r.event.type, r.event.key) for r in poll.records] == [
        (1, "Paid", "o-2"),
        (2, "OrderPlaced", "o-1"),
    ]
    assert (poll.records[0].event.data, poll.records[0].event.flow) == (b"{}", "order")
    stamps = [record.stamp_ms for record in await backend.log.read("order", 0, 0, 10)]
    assert stamps == sorted(stamps)
    with pytest.raises(sqlite3.IntegrityError, match="no such topic and partition"):
        foreign.execute("INSERT INTO log (topic, partition, key) VALUES ('order', 7, 'o-2')")


async def test_a_waiting_member_notices_another_program(backend: SqliteBackend, foreign: sqlite3.Connection) -> None:
    """Though time, for this process, stands still."""
    consumer = await backend.log.consumer("order", "payment", "a")
    await consumer.poll(10, 0)
    waiting = asyncio.ensure_future(consumer.poll(10, 60))
    await asyncio.sleep(0)
    foreign.execute("INSERT INTO log (topic, partition, key, type) VALUES ('order', 0, 'o-2', 'Paid')")
    assert [record.event.type for record in (await waiting).records] == ["Paid"]


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("headers", "'{'", "headers"),
        ("headers", "'[1]'", "headers"),
        ("headers", '\'{"attempt": "many"}\'', "attempt"),
        ("headers", "CAST(x'ff7b' AS TEXT)", "column headers is not UTF-8"),
        ("key", "CAST(x'6fff' AS TEXT)", "column key is not UTF-8"),
    ],
)
async def test_a_record_nobody_can_read_is_a_record_that_says_so(
    backend: SqliteBackend, foreign: sqlite3.Connection, column: str, value: str, why: str
) -> None:
    """With its payload as it stands; the records beside it are read."""
    columns = {"key": "'o-1'", "type": "'Paid'", "headers": "'{}'", "data": "x'ff00'", column: value}
    await backend.log.append("order", [event("e-1")])
    foreign.execute(
        f"INSERT INTO log (topic, partition, {', '.join(columns)}) VALUES ('order', 0, {', '.join(columns.values())})"
    )
    await backend.log.append("order", [event("e-3")])
    consumer = await backend.log.consumer("order", "payment", "a")
    first, broken, last = (await consumer.poll(10, 0)).records
    assert [first.event.id, last.event.id] == ["e-1", "e-3"]
    assert broken.event.type == facts.UNREADABLE
    assert "'Paid' cannot be read" in broken.event.reason
    assert why in broken.event.reason
    assert broken.event.data == b"\xff\x00"
    assert (await backend.read_model.history("order", "o-1"))[-1] == last


async def test_an_auditor_reads_the_log_with_plain_sql(backend: SqliteBackend, foreign: sqlite3.Connection) -> None:
    """Position, stamp and envelope are columns."""
    await backend.log.append("order", [event("e-1"), event("e-2", type_="Paid")])
    rows = foreign.execute("SELECT topic, partition, offset, id, type, key, run FROM log ORDER BY offset").fetchall()
    assert rows == [("order", 0, 0, "e-1", "OrderPlaced", "o-1", "r-1"), ("order", 0, 1, "e-2", "Paid", "o-1", "r-1")]


async def test_a_reader_far_behind_reads_the_file_and_then_the_tail(backend: SqliteBackend) -> None:
    """No record is missed or doubled where the two meet."""
    consumer = await backend.log.consumer("order", "payment", "a")
    await consumer.poll(10, 0)
    for first in range(0, 5_000, 500):
        await backend.log.append("order", [event(f"e-{n}") for n in range(first, first + 500)])
    read: list[str] = []
    while len(read) < 5_000:
        read += [record.event.id for record in (await consumer.poll(300, 0)).records]
    assert read == [f"e-{n}" for n in range(5_000)]


async def test_a_reader_of_few_types_passes_over_the_rest_in_strides(
    path: Path, backend: SqliteBackend, clock: VirtualClock
) -> None:
    """One poll finds the record behind 12,000 others, and `read` has moved over them."""
    await backend.log.append("order", [event(f"e-{n}") for n in range(12_000)])
    await backend.log.append("order", [event("rare", type_="Rare")])
    other = await SqliteBackend.open(path, clock=clock)
    consumer = await other.log.consumer("order", "payment", "a", frozenset({"Rare"}))
    found = [record.event.id for _ in range(2) for record in (await consumer.poll(10, 0)).records]
    assert found == ["rare"]
    none = await other.log.consumer("order", "shipping", "a", frozenset())
    polls = [await none.poll(10, 0) for _ in range(4)]
    assert not any(poll.records for poll in polls)
    assert max(poll.read.get(0, 0) for poll in polls) == 12_001
    await other.close()


async def test_every_field_is_in_the_file(path: Path, backend: SqliteBackend, clock: VirtualClock) -> None:
    """A process that has not written the event reads it field by field as it was, with all fields of an envelope."""
    values: dict[str, object] = {}
    for number, field in enumerate(msgspec.structs.fields(Envelope)):
        kind = str if field.default is msgspec.NODEFAULT else type(field.default)
        values[field.name] = {str: f"{field.name} é", int: number + 2, bool: True, bytes: b"\x00\xff"}[kind]
    events = [Envelope(**values), event("plain"), msgspec.structs.replace(event("own"), hops=2)]  # type: ignore[arg-type]
    await backend.log.append("order", events)
    other = await SqliteBackend.open(path, clock=clock)
    assert [record.event for record in await other.log.read("order", 0, 0, 10)] == events
    await other.close()


async def test_an_outcome_published_by_its_commit_is_kept_as_its_place_in_the_log(
    path: Path, backend: SqliteBackend, clock: VirtualClock
) -> None:
    """It is in the file once, and another process of the service finds it whole."""
    consumer = await backend.log.consumer("order", "payment", "a")
    await consumer.poll(10, 0)
    inbox = backend.inbox("payment")
    events = [event("o-1", type_="PaymentCharged"), event("o-2", key="o-7", type_="ReceiptSent")]
    await inbox.begin([AttemptRequest("t-1", "charge", "r-1", "r-1")])
    outcomes = [Outcome("t-1", "charge", "r-1", events, success=True), Outcome("t-2", "audit", "r-1", [], success=True)]
    await consumer.commit(CommitBatch(outcomes=outcomes, outputs=[event("x-1")]))
    await inbox.record([Outcome("t-3", "charge", "r-3", events[:1], success=True)])
    kept = backend.database.query("SELECT events FROM outcomes ORDER BY number")
    assert [text.startswith("[") for (text,) in kept] == [False, True, True]
    other = await SqliteBackend.open(path, clock=clock)
    keys = [("t-1", "charge"), ("t-2", "audit"), ("t-3", "charge")]
    assert await other.inbox("payment").recorded(keys) == {
        keys[0]: tuple(events),
        keys[1]: (),
        keys[2]: (events[0],),
    }
    assert await other.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1", "r-1")]) == [
        AttemptGrant(0, tuple(events))
    ]
    await other.close()


async def test_what_this_process_remembers_of_an_attempt_yields_to_what_another_wrote(
    path: Path, backend: SqliteBackend, clock: VirtualClock
) -> None:
    """The other has begun it a second time: no failure of it is certain any more."""
    await backend.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1", "r-1")])
    other = await SqliteBackend.open(path, clock=clock)
    assert await other.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1", "r-1")]) == [AttemptGrant(2)]
    await other.close()
    failure = Outcome("t-1", "charge", "r-1", [event("o-1")], success=False, certain_if_begun=1)
    (published,) = await backend.inbox("payment").record([failure])
    assert not published.certain
