"""The stores in PostgreSQL beyond the suites: pages among equals, long words, generations, notes, installations."""

import asyncio

import msgspec
import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.postgres.schema import OF_GENERATION, name_of
from choreo.core.errors import NotFoundError
from choreo.ports.inbox import AttemptGrant, AttemptRequest
from choreo.ports.read_model import Filter
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view
from choreo.testing.conformance.stores import LINGER_MS, paged
from tests.adapters.postgres.conftest import SCHEMA, Opener, PostgresStores
from tests.support.postgres_server import OwnPostgres


async def test_every_filter_goes_page_by_page(stores: PostgresStores) -> None:
    """Two attributes and a status that are each in many rows, and together in few."""
    views = [
        view(n, status="stuck" if n % 2 else "running", city="Basel" if n % 2 == 0 else "Bern") for n in range(1, 300)
    ]
    rare = [view(400, status="stuck", city="Basel"), view(0, status="stuck", city="Basel")]
    await stores.projections.save(batch(0, 1, *views, *rare))
    listed = await paged(stores, Filter(flow=TOPIC, status="stuck", attributes={"city": "Basel"}), 1)
    assert [item.key for item in listed] == ["o-400", "o-0"]
    both = Filter(attributes={"city": "Bern", "amount": "7"}, key="o-7")
    assert [item.key for item in await paged(stores, both, 1)] == ["o-7"]
    span = Filter(attributes={"city": "Bern"}, started_from_ms=3_000, started_before_ms=8_000)
    assert [item.key for item in await paged(stores, span, 2)] == ["o-7", "o-5", "o-3"]


async def test_attributes_may_hold_anything(stores: PostgresStores) -> None:
    """Long texts are found by all of their text, NUL and quotes too; names and values do not run into each other."""
    long = "Bahnhofstrasse " * 500
    cities = [long, long + "x", "a=b", "a\0b", "%s'\"", ""]
    await stores.projections.save(batch(0, 1, *(view(n, city=city) for n, city in enumerate(cities))))
    for number, city in enumerate(cities):
        found = await paged(stores, Filter(attributes={"city": city}), 10)
        assert [(item.key, item.attributes["city"]) for item in found] == [(f"o-{number}", city)]
    assert await paged(stores, Filter(attributes={"city=a": "b"}), 10) == []
    odd = msgspec.structs.replace(view(9), key="a\0b" + "x" * 5_000, run="r\0")
    await stores.projections.save(batch(1, 2, odd))
    assert await stores.read_model.runs(TOPIC, odd.key) == [odd]
    assert await stores.read_model.instance(TOPIC, odd.key, odd.run) == odd


@pytest.mark.parametrize("row", [b"\xff", b"a\0b"])
async def test_a_forged_cursor_is_refused(stores: PostgresStores, row: bytes) -> None:
    """A place that no statement can have is no fault of the server."""
    import base64

    forged = base64.urlsafe_b64encode(msgspec.msgpack.encode((1 << 63, row, b"order"))).decode()
    with pytest.raises(NotFoundError, match="not a cursor"):
        await stores.read_model.instances(Filter(), 10, forged)


async def test_dropped_views_leave_nothing_behind(shared_postgres: OwnPostgres, stores: PostgresStores) -> None:
    """Views that are folded meanwhile are not swept away with them."""
    await stores.projections.save(batch(0, 1, view(1), view(2)))
    await stores.read_model.drop(TOPIC)
    await stores.projections.save(batch(0, 1, view(3)))
    await stores.read_model.drop("refund")
    ((generation,),) = shared_postgres.query(f'SELECT generation FROM "{SCHEMA}".flows')
    for table in OF_GENERATION:
        rows = shared_postgres.query(f'SELECT DISTINCT generation FROM "{SCHEMA}".{table}')
        assert rows in ([], [(generation,)]), table
    assert shared_postgres.query(f'SELECT 1 FROM "{SCHEMA}".dropped') == []
    assert await stores.read_model.counts(TOPIC) == {"running": 1}


async def test_of_two_projectors_of_a_partition_one_saves(
    shared_postgres: OwnPostgres, stores: PostgresStores, opened: Opener
) -> None:
    """The others find that it went on; counts and views are of one of them."""
    several = [stores, *(opened(shared_postgres.url) for _ in range(5))]
    saves = [each.projections.save(batch(0, 5 + number, view(number))) for number, each in enumerate(several)]
    stands = await asyncio.gather(*saves)
    (position,) = set(stands)
    assert await stores.read_model.positions(TOPIC) == {0: position}
    assert await stores.read_model.counts(TOPIC) == {"running": 1}
    assert [item.key for item in await paged(stores, Filter(), 10)] == [f"o-{position - 5}"]


async def test_the_first_note_of_a_topic_stands_until_it_is_replaced(stores: PostgresStores) -> None:
    """It detects a log that was deleted and made again."""
    assert await stores.remembered(TOPIC) == ""
    assert await stores.recall(TOPIC, "first") == "first"
    assert await stores.recall(TOPIC, "second") == "first"
    await stores.remember(TOPIC, "third")
    assert await stores.recall(TOPIC, "fourth") == await stores.remembered(TOPIC) == "third"


async def test_what_is_forgotten_is_of_the_services_that_are_named(stores: PostgresStores) -> None:
    """Another service's inbox, and the views of another topic, stay."""
    attempt = AttemptRequest("t-1", "charge", "r-1", "r-1")
    for service in ("payment", "mail"):
        await stores.inbox(service).begin([attempt])
    await stores.projections.save(batch(0, 1, view(1)))
    await stores.projections.save(batch(0, 1, msgspec.structs.replace(view(1), flow="refund"), topic="refund"))
    await stores.forget(TOPIC, ["payment"])
    assert await stores.inbox("payment").begin([attempt]) == [AttemptGrant(1)]
    assert await stores.inbox("mail").begin([attempt]) == [AttemptGrant(2)]
    assert [item.flow for item in await paged(stores, Filter(), 10)] == ["refund"]


async def test_installations_share_a_database_and_are_cleared_apart(
    shared_postgres: OwnPostgres, stores: PostgresStores, beside: MemoryBackend, clock: VirtualClock
) -> None:
    """Each prefix has a schema, also one that is too long for a name or holds a quote."""
    others = [
        PostgresStores(shared_postgres.url, beside.log, clock, linger_ms=LINGER_MS, prefix=prefix)
        for prefix in ("", "x" * 200, 'a"b%s')
    ]
    for each in (stores, *others):
        assert await each.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1")]) == [AttemptGrant(1)]
    for each in others:
        await each.clear()
        await each.close()
    names = [str(name) for (name,) in shared_postgres.query("SELECT nspname FROM pg_namespace")]
    assert [name for name in names if name.startswith("choreo")] == [SCHEMA]
    assert name_of("x" * 200) != name_of("x" * 201)
    assert await stores.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1")]) == [AttemptGrant(2)]
