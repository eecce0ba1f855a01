"""A consumer that dies is replaced, and others do its work.

Within 15 s on a machine that has nothing else to do; how long it took is kept in the record of the run (`--junitxml`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from schemas.orders import StockRejected
from tests.kafka.everything import answer_at
from tests.kafka.harness import PARTITIONS, Harness, keys_in, moves, owned, shared
from tests.support.kafka import free_ports

Recorded = Callable[[str, object], None]


async def test_a_dead_service_is_replaced(harness: Harness, record_testsuite_property: Recorded) -> None:
    """The other one handles later records, and the dead one's open work once more, under the same key."""
    harness.fleet.start("inventory")
    victim, successor = harness.fleet.start("payment"), harness.fleet.start("payment")
    await harness.until(lambda: shared(victim, successor), "both have their share")
    orphaned = owned(victim)
    before = keys_in(orphaned, 1, "before")
    for key in before:
        await harness.place(key, card="visa+slow:1")
    await harness.until(lambda: _at_the_bank(harness.books, len(before)), "each handler has called the bank")
    harness.fleet.kill(victim)
    interrupted = set(before) - set(await harness.keys("PaymentCharged"))
    after = keys_in(orphaned, 2, "after")
    for key in after:
        await harness.place(key)
    served_s = await harness.until(lambda: harness.published("PaymentCharged", [*before, *after]), "all are served")
    record_testsuite_property("dead service: all served after s", round(served_s, 1))
    assert interrupted, "the kill hit nothing"
    assert owned(successor) == set(range(PARTITIONS))
    assert sorted(await harness.keys("PaymentCharged")) == sorted([*before, *after])
    assert _charges(harness.books) == dict.fromkeys([*before, *after], 1)
    again = {r.event.key: r.event.attempt for r in await harness.log() if r.event.type == "PaymentCharged"}
    assert {again[key] for key in interrupted} == {2}
    assert {again[key] for key in after} == {1}


async def test_a_dead_tracker_is_replaced(harness: Harness, record_testsuite_property: Recorded) -> None:
    """The other one compensates its runs."""
    victim, successor = harness.fleet.start("tracker"), harness.fleet.start("tracker")
    await harness.until(lambda: shared(victim, successor), "both have partitions")
    orphaned = owned(victim)
    harness.fleet.kill(victim)
    keys = keys_in(orphaned, 2, "after")
    for key in keys:
        await harness.place(key)
        await harness.publish(StockRejected(order_id=key, sku="tea", reason="none left"))
    served_s = await harness.until(lambda: harness.published("choreo.CompensationStarted", keys), "all are turned")
    record_testsuite_property("dead tracker: all served after s", round(served_s, 1))
    assert owned(successor) == set(range(PARTITIONS))


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_static_member_that_is_back_soon_moves_nothing(
    harness: Harness, record_testsuite_property: Recorded, how: str
) -> None:
    """It has the partitions it had; nothing of the other's has moved."""
    first = harness.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1")
    other = harness.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-2")
    await harness.until(lambda: shared(first, other), "both have their share")
    had, heard = owned(first), moves(other)
    if how == "killed":
        harness.fleet.kill(first)
    else:
        await harness.stop(first)
    back = harness.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1")
    keys = keys_in(had, 1, "after")
    for key in keys:
        await harness.place(key)
    served_s = await harness.until(lambda: harness.published("StockReserved", keys), "all are served")
    record_testsuite_property(f"static member {how}: all served after s", round(served_s, 1))
    assert owned(back) == had
    assert moves(other) == heard


async def _at_the_bank(books: Path, number: int) -> bool:
    if not (books / "bank.sqlite").exists() or not _ask(books, "SELECT 1 FROM sqlite_schema WHERE name = 'calls'"):
        return False
    return bool(_ask(books, "SELECT coalesce(sum(count), 0) >= ? FROM calls", number)[0][0])


def _charges(books: Path) -> dict[str, int]:
    return dict(_ask(books, "SELECT order_id, count(*) FROM charges GROUP BY order_id"))


def _ask(books: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(books / "bank.sqlite", timeout=30)) as db:
        return db.execute(sql, values).fetchall()


async def test_two_processes_of_one_instance_say_so(harness: Harness) -> None:
    """They put each other out of the group: orders are served, `/readyz` names the cause until one is stopped."""
    ports = free_ports(2)
    first, second = (
        harness.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1", CHOREO_HEALTH_PORT=str(port))
        for port in ports
    )

    async def reported(*ports: int) -> str:
        answers = [await asyncio.to_thread(answer_at, f"http://127.0.0.1:{port}/readyz") for port in ports]
        return " ".join(body for status, body in answers if status == 503 and "instance of inventory" in body)

    async def is_ready() -> bool:
        return (await asyncio.to_thread(answer_at, f"http://127.0.0.1:{ports[0]}/readyz"))[0] == 200

    await harness.until(lambda: reported(*ports), "one of them reports the other")
    assert "CHOREO_KAFKA_GROUP_INSTANCE_ID" in await reported(*ports)
    keys = keys_in(range(PARTITIONS), 1, "shared")
    for key in keys:
        await harness.place(key)
    # Each is put out of the group again and again, and stays away for longer each time, so that the other works.
    await harness.until(lambda: harness.published("StockReserved", keys), "all are served")
    await harness.stop(second)
    await harness.until(is_ready, "the other is alone, and ready")
    assert owned(first)
