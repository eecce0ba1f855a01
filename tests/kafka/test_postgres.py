"""The reference flow on Kafka with PostgreSQL in the place of Redis: orders, outages, a lost inbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

from choreo.ports.read_model import Filter
from tests.kafka.everything import running
from tests.kafka.harness import PARTITIONS, Harness, declined, keys_in
from tests.support.postgres_server import PASSWORD, OwnPostgres, running_postgres

EVERYWHERE = range(PARTITIONS)


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    """Yield a server for the tests of this module."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def stores(postgres: OwnPostgres) -> dict[str, str]:
    """Return settings with PostgreSQL, and no Redis."""
    return {"CHOREO_POSTGRES": postgres.url}


async def test_orders_end_although_the_database_goes_away(
    harness: Harness, postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every role reports it and holds its work; the views are right afterwards, and no role has ended."""
    async with running(harness, monkeypatch) as everyone:
        await harness.place("before-declined", card="declined")
        await harness.until(lambda: everyone.stand(["before-declined"], "compensated"), "an order is compensated")
        under_way = keys_in(EVERYWHERE, 2, "under-way")
        for key in under_way:
            await harness.place(key, card="declined")
        postgres.stop()
        await harness.until(partial(everyone.reports, "postgres"), "the database is reported")
        report = (await everyone.unavailable())["postgres"]
        assert report["remedy"].startswith("Start it, or correct CHOREO_POSTGRES")
        assert PASSWORD not in str(await everyone.unavailable())
        postgres.start()
        await harness.until(everyone.is_ready, "all roles are ready again")
        await harness.place("after", card="declined")
        everything = [*under_way, "after"]
        await harness.until(lambda: everyone.stand(everything, "compensated"), "all are compensated")
        page = await everyone.app.queries.instances(Filter(flow="order"), 100)
        assert {row.key for row in page.items} == {"before-declined", *everything}
        assert await everyone.app.queries.counts("order") == {"compensated": len(everything) + 1}
        status, body = await everyone.asked("/flows/order/instances/after/history")
        assert (status, "PaymentDeclined" in body) == (200, True)


async def test_a_service_whose_inbox_is_lost_is_certain_of_nothing(harness: Harness, postgres: OwnPostgres) -> None:
    """The log has noted its name: a service that starts into empty tables is not taken for a new one."""
    harness.fleet.start("inventory")
    first = harness.fleet.start("payment")
    assert await declined(harness, "first") == {True}
    await harness.stop(first)
    postgres.query(f'DROP SCHEMA "choreo_{os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]}" CASCADE')
    harness.fleet.start("payment")
    assert await declined(harness, "second") == {False}
