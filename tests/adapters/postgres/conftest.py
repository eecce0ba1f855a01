"""A real PostgreSQL for this folder: one for all tests, emptied before each, and another for tests that stop it."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.app.dependencies import DependencyReports
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance.stores import LINGER_MS, Lose
from tests.support import required
from tests.support.postgres_server import OwnPostgres, running_postgres

PostgresStores = required.needed("choreo.adapters.postgres", "postgres").PostgresStores

SCHEMA = "choreo_test-1."
PREFIX = "test-1."


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[OwnPostgres]:
    """Yield a server that nobody stops."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """Yield a server to stop, freeze and start."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def reports(clock: VirtualClock) -> DependencyReports:
    """Return everything that the process under test cannot use."""
    return DependencyReports(clock)


Opener = Callable[..., PostgresStores]


@pytest.fixture
async def opened(beside: MemoryBackend, clock: VirtualClock, reports: DependencyReports) -> AsyncIterator[Opener]:
    """Yield a function that opens stores at an address."""
    several: list[PostgresStores] = []

    def open_stores(url: str, timeout_s: float = 5.0) -> PostgresStores:
        several.append(
            PostgresStores(
                url, beside.log, clock, linger_ms=LINGER_MS, prefix=PREFIX, timeout_s=timeout_s, dependencies=reports
            )
        )
        return several[-1]

    yield open_stores
    for stores in several:
        await stores.close()


@pytest.fixture
async def stores(shared_postgres: OwnPostgres, opened: Opener) -> PostgresStores:
    """Return stores in an empty database."""
    shared_postgres.query(f'DROP SCHEMA IF EXISTS "{SCHEMA}" CASCADE')
    return opened(shared_postgres.url)


TABLES = ("rows", "slots", "runs", "gates", "gate_positions", "identities")

LOSSES: dict[str, Callable[[OwnPostgres], object]] = {
    "the tables are emptied": lambda server: server.query(
        f"TRUNCATE {', '.join(f'{chr(34)}{SCHEMA}{chr(34)}.inbox_{table}' for table in TABLES)}"
    ),
    "the schema is dropped": lambda server: server.query(f'DROP SCHEMA "{SCHEMA}" CASCADE'),
}


@pytest.fixture(params=LOSSES)
def lose(request: pytest.FixtureRequest, shared_postgres: OwnPostgres) -> Lose:
    """Lose the inboxes, one way or another."""

    async def lost() -> None:
        LOSSES[request.param](shared_postgres)

    return lost
