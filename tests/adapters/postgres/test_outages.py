"""The server goes away, drops a connection, refuses, or is another one: reported, survived, and no secret is shown."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from choreo.app.dependencies import DependencyReports
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.inbox import AttemptGrant, AttemptRequest
from choreo.testing.conformance import TOPIC
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view
from choreo.testing.conformance.stores import CHARGE
from tests.adapters.postgres.conftest import SCHEMA, Opener, PostgresStores
from tests.adapters.store_calls import CALLS
from tests.support.patience import PATIENCE_S
from tests.support.postgres_server import PASSWORD, OwnPostgres
from tests.support.relay import Relay


@pytest.fixture
def standby() -> Iterator[OwnPostgres]:
    """Yield a server beside `own_postgres`, not created yet."""
    server = OwnPostgres()
    yield server
    server.remove()


@asynccontextmanager
async def replicated(primary: OwnPostgres, standby: OwnPostgres) -> AsyncIterator[Relay]:
    """Yield an address that leads to the primary, with a standby beside it."""
    standby.copy(primary)
    standby.start()
    async with Relay.to(primary.port) as relay:
        yield relay


async def fail_over(relay: Relay, old: OwnPostgres, new: OwnPostgres) -> None:
    """Kill the primary, promote its standby, and lead the address there."""
    old.stop()
    assert new.query("SELECT pg_promote()") == [(True,)]
    relay.target = new.port


async def test_a_server_that_is_away_is_reported_and_found_again(
    own_postgres: OwnPostgres, opened: Opener, reports: DependencyReports
) -> None:
    """Every error names the remedy; when the server is back the same stores go on, and nothing is forgotten."""
    several = {call: opened(own_postgres.url) for call in CALLS}
    for stores in several.values():
        await stores.inbox("payment").begin([CHARGE])
    own_postgres.stop()
    for call, stores in several.items():
        with pytest.raises(StorageError, match="Start it, or correct CHOREO_POSTGRES") as caught:
            await CALLS[call](stores)
        assert PASSWORD not in str(caught.value)
    assert [(one.name, PASSWORD in one.cause) for one in reports.all()] == [("postgres", False)]
    own_postgres.start()
    for call, stores in several.items():
        await CALLS[call](stores)
    assert reports.all() == []
    assert await several["begin"].inbox("payment").begin([CHARGE]) == [AttemptGrant(len(CALLS) + 1)]


async def test_a_check_reports_a_server_that_nobody_asks(
    own_postgres: OwnPostgres, opened: Opener, reports: DependencyReports
) -> None:
    """An idle role reports the condition that an active one would meet."""
    stores = opened(own_postgres.url)
    await stores.check()
    own_postgres.stop()
    with pytest.raises(StorageError):
        await stores.check()
    assert [one.name for one in reports.all()] == ["postgres"]
    own_postgres.start()
    await stores.check()
    assert reports.all() == []


async def test_a_connection_that_drops_in_a_transaction_leaves_none_of_it(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener, reports: DependencyReports
) -> None:
    """The batch waits for a row that another session has locked; its connection is ended, and it is sent again."""
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE])
    locking = opened(shared_postgres.url).server
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold(connection: object) -> None:
        async with connection.transaction():  # type: ignore[attr-defined]
            await connection.execute(f'SELECT 1 FROM "{SCHEMA}".inbox_rows FOR UPDATE')  # type: ignore[attr-defined]
            locked.set()
            await release.wait()

    holding = asyncio.create_task(locking.run(hold))
    await locked.wait()
    beginning = asyncio.create_task(inbox.begin([AttemptRequest("t-0", "charge", "r-0"), CHARGE]))
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_S):
        while not (pids := await asyncio.to_thread(shared_postgres.query, waits)):
            pass
    assert shared_postgres.query("SELECT pg_terminate_backend(%s)", [pids[0][0]]) == [(True,)]
    release.set()
    await holding
    assert await beginning == [AttemptGrant(1), AttemptGrant(2)]
    assert reports.all() == []


async def test_every_call_finds_the_promoted_standby(
    own_postgres: OwnPostgres, standby: OwnPostgres, opened: Opener, reports: DependencyReports
) -> None:
    """A standby may lack the last writes of its primary: afterwards nothing is certain, for later processes too."""
    async with replicated(own_postgres, standby) as relay:
        several = {call: opened(own_postgres.address(relay.port)) for call in CALLS}
        for stores in several.values():
            await stores.inbox("payment").begin([CHARGE])
        behind = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        ((written,),) = own_postgres.query("SELECT pg_current_wal_lsn()")
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(standby.query, behind, [written]) != [(True,)]:
                pass
        await fail_over(relay, own_postgres, standby)
        for call, stores in several.items():
            await CALLS[call](stores)
            assert reports.all() == []
        for number, stores in enumerate(several.values()):
            (published,) = await stores.inbox("payment").record([outcome(trigger=f"t-1{number}", certain_if=0)])
            assert not published.certain
        assert await several["begin"].inbox("payment").begin([CHARGE]) == [AttemptGrant(len(CALLS) + 1)]
    later = opened(standby.url)
    (published,) = await later.inbox("payment").record([outcome(trigger="t-8", certain_if=0)])
    assert not published.certain
    (published,) = await later.inbox("shipping").record([outcome(trigger="t-8", certain_if=0)])
    assert published.certain, "a service that began after the loss has lost nothing"


async def test_a_standby_is_reported_until_it_is_promoted(
    own_postgres: OwnPostgres, standby: OwnPostgres, opened: Opener, reports: DependencyReports
) -> None:
    """Its views may have stood still, so that reading from it is refused, too."""
    async with replicated(own_postgres, standby):
        stores = opened(standby.url)
        for call in ("begin", "counts"):
            with pytest.raises(StorageError, match="Point CHOREO_POSTGRES to the primary"):
                await CALLS[call](stores)
        assert [one.name for one in reports.all()] == ["postgres"]
        assert standby.query("SELECT pg_promote()") == [(True,)]
        assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
        assert reports.all() == []


async def test_of_several_hosts_the_primary_is_used(
    own_postgres: OwnPostgres, standby: OwnPostgres, opened: Opener
) -> None:
    """Whichever stands first in the address; after a failover the other one."""
    async with replicated(own_postgres, standby):
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{own_postgres.port}"
        stores = opened(own_postgres.url.replace(f"127.0.0.1:{own_postgres.port}", hosts))
        assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
        own_postgres.stop()
        assert standby.query("SELECT pg_promote()") == [(True,)]
        await stores.inbox("payment").begin([CHARGE])


async def test_a_primary_that_turns_read_only_is_left_for_the_one_that_writes(
    own_postgres: OwnPostgres, standby: OwnPostgres, opened: Opener, reports: DependencyReports
) -> None:
    """SQLSTATE 25006 on a connection that stays open: the address leads to another server meanwhile."""
    async with replicated(own_postgres, standby) as relay:
        stores = opened(own_postgres.address(relay.port))
        await stores.inbox("payment").begin([CHARGE])
        own_postgres.query("ALTER SYSTEM SET default_transaction_read_only = on")
        own_postgres.query("SELECT pg_reload_conf()")
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(StorageError, match="to the primary"):
                await _begin_for_ever(stores)
        assert [one.name for one in reports.all()] == ["postgres"]
        assert standby.query("SELECT pg_promote()") == [(True,)]
        relay.target = standby.port
        assert (await stores.inbox("payment").begin([CHARGE]))[0].count
        assert reports.all() == []


async def _begin_for_ever(stores: PostgresStores) -> None:
    while True:
        await stores.inbox("payment").begin([CHARGE])


async def test_a_wrong_password_is_said_without_showing_any(
    shared_postgres: OwnPostgres, opened: Opener, reports: DependencyReports, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the error with all its causes, nor in a report, nor in a log line."""
    wrong = "wr0ng:p@ss/word"
    url = shared_postgres.address(shared_postgres.port, "wr0ng%3Ap%40ss%2Fword")
    with pytest.raises(StorageError, match="Correct the user and password") as caught:
        await opened(url).inbox("payment").begin([CHARGE])
    chain: list[BaseException | None] = [caught.value]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__))
    texts = [*map(str, chain), *(one.cause for one in reports.all()), *capfd.readouterr()]
    assert reports.all()
    for secret in (wrong, "wr0ng", "wr0ng%3Ap%40ss%2Fword", PASSWORD):
        assert not any(secret in text for text in texts)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:5432",
        "redis://localhost/0",
        "postgresql://u:s3cret@host:no-port/d",
        "postgresql://h/d?sslmodus=s3cret",
    ],
)
def test_an_address_that_is_none_is_refused_unquoted(opened: Opener, address: str) -> None:
    """The message shows the form of one."""
    with pytest.raises(SettingsError, match="postgresql://user:password@host") as caught:
        opened(address)
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


async def test_a_user_who_may_not_create_tables_is_told_at_the_start(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener
) -> None:
    """Waiting does not help; where somebody else has created them, rights on them are enough."""
    shared_postgres.query("DROP ROLE IF EXISTS guest")
    shared_postgres.query("CREATE ROLE guest LOGIN PASSWORD 'gu3st-pass'")
    url = f"postgresql://guest:gu3st-pass@127.0.0.1:{shared_postgres.port}/postgres"
    try:
        with pytest.raises(SettingsError, match="GRANT CREATE ON DATABASE"):
            await opened(url).check()
        await stores.check()
        for what in ("SCHEMA", "ALL TABLES IN SCHEMA", "ALL SEQUENCES IN SCHEMA"):
            shared_postgres.query(f'GRANT ALL ON {what} "{SCHEMA}" TO guest')
        guest = opened(url)
        await guest.check()
        assert await guest.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
    finally:
        shared_postgres.query("DROP OWNED BY guest")
        shared_postgres.query("DROP ROLE guest")


async def test_a_database_that_was_emptied_is_folded_again(
    shared_postgres: OwnPostgres, stores: PostgresStores
) -> None:
    """The projector finds the beginning, and the same batches make the same views."""
    first = [batch(0, 5, view(1), view(2)), batch(5, 9, view(1, status="stuck"), view(3))]
    for each in first:
        await stores.projections.save(each)
    before = await stores.read_model.digest(TOPIC)
    shared_postgres.query(f'DROP SCHEMA "{SCHEMA}" CASCADE')
    assert await stores.projections.save(batch(9, 12, view(4))) == 0
    for each in first:
        assert await stores.projections.save(each) == each.position
    assert await stores.read_model.digest(TOPIC) == before


async def test_tables_of_another_version_are_left_alone(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener
) -> None:
    """The process ends with the remedy."""
    await stores.check()
    shared_postgres.query(f'UPDATE "{SCHEMA}".about SET version = 99')
    with pytest.raises(SettingsError, match="of version 99"):
        await opened(shared_postgres.url).check()


async def test_a_server_that_commits_late_is_made_to_wait(own_postgres: OwnPostgres, opened: Opener) -> None:
    """With synchronous_commit off a crash would forget the last acknowledged writes."""
    own_postgres.stop()
    own_postgres.start("synchronous_commit=off", "wal_writer_delay=10s")
    stores = opened(own_postgres.url)
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(1)]
    own_postgres.stop()
    own_postgres.start()
    assert await stores.inbox("payment").begin([CHARGE]) == [AttemptGrant(2)]


async def test_a_call_that_is_cancelled_ends_at_once_where_the_server_hangs(
    own_postgres: OwnPostgres, opened: Opener
) -> None:
    """A host that stops waits for no server."""
    stores = opened(own_postgres.url, timeout_s=600)
    await stores.check()
    own_postgres.freeze()
    asking = asyncio.create_task(stores.read_model.counts(TOPIC))
    while not stores.server.is_busy:  # noqa: ASYNC110 - the task on this loop is it
        await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait([asking])
    assert asking.cancelled()
    own_postgres.thaw()
    assert await stores.read_model.counts(TOPIC) == {}


def test_without_the_extra_its_name_is_said() -> None:
    """Not a line of Python's about modules."""
    program = "import sys; sys.modules['psycopg'] = None; import choreo.adapters.postgres"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'choreo-kafka[postgres]'" in done.stderr
