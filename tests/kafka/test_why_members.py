"""Incidents of members on a real broker: `why` names the cause, and the remedy ends it."""

from __future__ import annotations

import shlex
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from choreo.app.query.why.rules import Why
from choreo.cli import program
from choreo.core.errors import NotFoundError, UnavailableError
from choreo.core.partition import partition_of
from tests.kafka.harness import FLOW, PARTITIONS, Harness, owned
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.timeout(600)
INSTANCE = {"CHOREO_KAFKA_GROUP_INSTANCE_ID": "pod-1"}


async def asked(harness: Harness, key: str) -> Why | None:
    """Return the answer; None while the run is not shown yet."""
    try:
        answer: Why = await harness.app.queries.why(FLOW, key)
    except (NotFoundError, UnavailableError):
        return None
    return answer


Look = Callable[[], Awaitable[bool]]


def with_cause(harness: Harness, keys: Callable[[], Awaitable[str]], cause: str, found: list[Why]) -> Look:
    """Return a look that keeps the answer once it has this cause."""

    async def look() -> bool:
        answer = await asked(harness, await keys())
        if answer is None or answer.cause != cause:
            return False
        found.append(answer)
        return True

    return look


async def test_two_processes_share_an_instance(harness: Harness) -> None:
    """Incident 15: the instance is named; once one of them is stopped, orders go on and nothing is wrong."""
    for role in ("tracker", "projector"):
        harness.fleet.start(role)
    _, second = (harness.fleet.start("inventory", **INSTANCE) for _ in range(2))
    numbers, found = count(), list[Why]()

    async def placed() -> str:
        await harness.app.queries.group(FLOW, "inventory")  # a process that answers questions observes
        key = f"shared-{next(numbers)}"
        await harness.place(key)
        return key

    await harness.until(with_cause(harness, placed, "contested", found), "why names them", PATIENCE_S)
    (answer,) = found
    assert "pod-1" in answer.sentence
    assert "CHOREO_KAFKA_GROUP_INSTANCE_ID" in answer.remedy
    assert (await harness.app.queries.group(FLOW, "inventory")).contested
    await harness.stop(second)
    await harness.until(lambda: harness.published("StockReserved", [answer.key]), "it goes on", PATIENCE_S)


async def test_members_that_die_again_and_again(harness: Harness) -> None:
    """Incidents 4 and 1: no process; then each that owns the partition dies in the handler. Both commands are run."""
    for role in ("tracker", "projector", "inventory"):
        harness.fleet.start(role)
    await harness.place("looped", card="visa+slow:600")
    await harness.until(lambda: harness.published("StockReserved", ["looped"]), "it comes to the payment", PATIENCE_S)
    partition, found = partition_of("looped", PARTITIONS), list[Why]()

    async def looped() -> str:
        return "looped"

    await harness.until(with_cause(harness, looped, "no-member", found), "no process of the payment runs", PATIENCE_S)
    assert found.pop().command == "choreo run payment"
    look = with_cause(harness, looped, "rebalance-loop", found)
    while not found:
        victim = harness.fleet.start("payment")  # as that command does

        async def is_owner(worker=victim) -> bool:  # type: ignore[no-untyped-def] # noqa: ANN001 - this turn's process
            return await look() or partition in owned(worker)

        await harness.until(is_owner, "it owns the partition", PATIENCE_S)
        harness.fleet.kill(victim)
    (answer,) = found
    assert "the members of service payment have changed" in answer.sentence
    assert [each.name for each in answer.evidence].count("change of payment") >= 3
    assert await to_thread(program.run, tuple(shlex.split(answer.command)[1:])) == 0
    paused = with_cause(harness, looped, "paused", found)
    await harness.until(paused, "the pause is shown", PATIENCE_S)
