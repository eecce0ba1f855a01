"""A member that dies is replaced, and what was its work is done by others.

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
from tests.members.everything import answer_at
from tests.members.scene import PARTITIONS, Scene, keys_in, moves, owned, shared
from tests.support.kafka import free_ports

WITHIN_S = 30.0
"""Sessions last 8 and 10 s: the rest is for the rebalance, reading ahead and the work, on a machine that is shared."""

Recorded = Callable[[str, object], None]


async def test_a_dead_service_is_replaced(scene: Scene, record_testsuite_property: Recorded) -> None:
    """What comes after its death is worked by the other, what it was at too: once more, under the same key."""
    scene.fleet.start("inventory")
    victim, heir = scene.fleet.start("payment"), scene.fleet.start("payment")
    await scene.until(lambda: shared(victim, heir), "both have their share")
    orphaned = owned(victim)
    before = keys_in(orphaned, 1, "before")
    for key in before:
        await scene.place(key, card="visa+slow:1")
    await scene.until(lambda: _at_the_bank(scene.books, len(before)), "each handler has called the bank")
    scene.fleet.kill(victim)
    interrupted = set(before) - set(await scene.keys("PaymentCharged"))
    after = keys_in(orphaned, 2, "after")
    for key in after:
        await scene.place(key)
    served_s = await scene.until(lambda: scene.said("PaymentCharged", [*before, *after]), "all are served", WITHIN_S)
    record_testsuite_property("dead service: all served after s", round(served_s, 1))
    assert interrupted, "the kill hit nothing"
    assert owned(heir) == set(range(PARTITIONS))
    assert sorted(await scene.keys("PaymentCharged")) == sorted([*before, *after])
    assert _charges(scene.books) == dict.fromkeys([*before, *after], 1)
    again = {r.event.key: r.event.attempt for r in await scene.log() if r.event.type == "PaymentCharged"}
    assert {again[key] for key in interrupted} == {2}
    assert {again[key] for key in after} == {1}


async def test_a_dead_tracker_is_replaced(scene: Scene, record_testsuite_property: Recorded) -> None:
    """Its runs are turned by the other."""
    victim, heir = scene.fleet.start("tracker"), scene.fleet.start("tracker")
    await scene.until(lambda: shared(victim, heir), "both have partitions")
    orphaned = owned(victim)
    scene.fleet.kill(victim)
    keys = keys_in(orphaned, 2, "after")
    for key in keys:
        await scene.place(key)
        await scene.publish(StockRejected(order_id=key, sku="tea", reason="none left"))
    served_s = await scene.until(lambda: scene.said("choreo.FlowTurned", keys), "all are turned", WITHIN_S)
    record_testsuite_property("dead tracker: all served after s", round(served_s, 1))
    assert owned(heir) == set(range(PARTITIONS))


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_static_member_that_is_back_soon_moves_nothing(
    scene: Scene, record_testsuite_property: Recorded, how: str
) -> None:
    """It has the partitions it had; nothing of the other's has moved."""
    first = scene.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1")
    other = scene.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-2")
    await scene.until(lambda: shared(first, other), "both have their share")
    had, heard = owned(first), moves(other)
    if how == "killed":
        scene.fleet.kill(first)
    else:
        await scene.stop(first)
    back = scene.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1")
    keys = keys_in(had, 1, "after")
    for key in keys:
        await scene.place(key)
    served_s = await scene.until(lambda: scene.said("StockReserved", keys), "all are served", WITHIN_S)
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


async def test_two_processes_of_one_instance_say_so(scene: Scene) -> None:
    """They put each other out of the group: orders are served, `/readyz` names the cause until one is stopped."""
    ports = free_ports(2)
    first, second = (
        scene.fleet.start("inventory", CHOREO_KAFKA_GROUP_INSTANCE_ID="pod-1", CHOREO_HEALTH_PORT=str(port))
        for port in ports
    )

    async def reported(*ports: int) -> str:
        answers = [await asyncio.to_thread(answer_at, f"http://127.0.0.1:{port}/readyz") for port in ports]
        return " ".join(body for status, body in answers if status == 503 and "instance of inventory" in body)

    async def is_ready() -> bool:
        return (await asyncio.to_thread(answer_at, f"http://127.0.0.1:{ports[0]}/readyz"))[0] == 200

    await scene.until(lambda: reported(*ports), "one of them reports the other")
    assert "CHOREO_KAFKA_GROUP_INSTANCE_ID" in await reported(*ports)
    keys = keys_in(range(PARTITIONS), 1, "shared")
    for key in keys:
        await scene.place(key)
    await scene.until(lambda: scene.said("StockReserved", keys), "all are served")
    await scene.stop(second)
    await scene.until(is_ready, "the other is alone, and ready")
    assert owned(first)
