"""The audit list, read from the end of a log: order over partitions, pages, and a bound on each."""

from __future__ import annotations

import random
from typing import Any

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.app.operator import audit
from choreo.app.operator.audit import page
from choreo.core import facts
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope
from choreo.testing.clock import VirtualClock

PARTITIONS = 3


async def log_of(events: int, seed: int, *, actions: float) -> tuple[Any, list[str]]:
    """Return a log with events of many keys, and the ids of the actions among them, newest first."""
    chance, clock = random.Random(seed), VirtualClock()
    log = MemoryBackend(clock, lease_s=60).log
    await log.create("order", PARTITIONS)
    done = []
    for number in range(events):
        await clock.advance(0.001 * chance.randint(1, 9))
        action = chance.random() < actions
        type_ = facts.FLOW_PAUSED if action else "OrderPlaced"
        event = Envelope(
            f"e-{number}", type_, f"o-{chance.randint(1, 99)}", "order", reason=f"e-{number}", actor="cli/ann"
        )
        await log.append("order", [event])
        done += [f"e-{number}"] if action else []
    return log, done[::-1]


async def pages(log: Any, limit: int) -> list[list[str]]:
    """Return the reasons in every page."""
    found, cursor = [], ""
    while True:
        answer = await page(log, "order", limit, cursor)
        found.append([row.reason for row in answer.items])
        cursor = answer.cursor
        if not cursor:
            return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_every_action_is_listed_once_newest_first(seed: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several partitions and pages, each of which looks at a part of the log."""
    monkeypatch.setattr(audit, "SCANNED_MAX", 60)
    monkeypatch.setattr(audit, "CHUNK_MIN", 10)
    log, done = await log_of(300, seed, actions=0.2)
    found = await pages(log, limit)
    assert [reason for part in found for reason in part] == done
    assert max(map(len, found)) <= limit


async def test_a_page_looks_at_a_part_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log without actions is read in several pages, each with a cursor to go on from."""
    monkeypatch.setattr(audit, "SCANNED_MAX", 60)
    monkeypatch.setattr(audit, "CHUNK_MIN", 10)
    log, _ = await log_of(600, 1, actions=0)
    found = await pages(log, 10)
    assert len(found) > 3
    assert not any(found)


async def test_an_empty_log_has_an_empty_list() -> None:
    """And no cursor."""
    log, _ = await log_of(0, 1, actions=0)
    assert await pages(log, 10) == [[]]


@pytest.mark.parametrize("cursor", ["x", "1", "1.2", "1.2.3.4", "-1.2.3", "1.2.3 ", "1..3"])
async def test_another_cursor_is_refused(cursor: str) -> None:
    """It must have a place in each partition."""
    log, _ = await log_of(1, 1, actions=1)
    with pytest.raises(NotFoundError, match="not a cursor"):
        await page(log, "order", 10, cursor)
