"""On Kafka and Redis: a batch whose process dies half-way redrives each of 600 dead letters once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from choreo.app.operator.batch_plans import Planner, Wish
from choreo.app.operator.batches import Batches
from choreo.core import facts, ids
from choreo.core.access import PROGRAM
from choreo.core.batch import State
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.settings import load
from choreo.wiring import App, open_app
from tests.kafka.conftest import OnKafka

LETTERS = 600
DESK = ("tests.cli.desk.desk_flow:desk",)


class DeadError(BaseException):
    """The process is no more."""


class Dying:
    """A log whose third append reaches it, and is the last."""

    def __init__(self, log: Any) -> None:
        self._log, self._left = log, 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, topic: str, events: list[Envelope]) -> Any:
        """Append; the third time nobody hears of it."""
        self._left -= 1
        await self._log.append(topic, events)
        if not self._left:
            raise DeadError


def _batches(app: App, log: Any) -> Batches:
    backend, known = app.backend, app.queries.flows
    return Batches(known, log, backend.read_model, backend.dead_letters, backend.notes, app.clock, app.owned.new_id)


async def test_each_letter_is_redriven_once(on_kafka: OnKafka) -> None:
    """The facts of a portion that is published once more have the same ids, and count once."""
    on_kafka(DESK, 2)
    async with open_app(load()) as app:
        await app.backend.create_topics()
        starts = [Envelope(ids.start("desk", f"t-{n}"), "TicketOpened", f"t-{n}", "desk") for n in range(LETTERS)]
        places = await app.backend.log.append("desk", starts)
        letters = [
            DeadLetter(
                ids.derive("letter", e.id), "desk", p.partition, p.offset, "seats", "seats.take", "broken", 5,
                Record("desk", p.partition, p.offset, 5, e),
            )
            for p, e in zip(places, starts, strict=True)
        ]  # fmt: skip
        await app.backend.dead_letters.add(letters)
        wish = Wish("redrive", "desk", PROGRAM, 10_000, "t")
        draft = await Planner(app.queries, app.operator.redriver, app.clock).of_dead_letters(wish, "")
        assert len(draft.plan.items) == LETTERS
        await app.batches.begin(draft.plan)
        with pytest.raises(DeadError):
            await _batches(app, Dying(app.backend.log)).run(draft.plan.id, asyncio.Event())
        progress = await app.batches.run(draft.plan.id, asyncio.Event())
        assert (progress.state, progress.done, progress.refused) == (State.DONE, LETTERS, 0)
        found: dict[str, str] = {}
        for partition in range(2):
            at = 0
            while page := await app.backend.log.read("desk", partition, at, 1_000):
                at = page[-1].offset + 1
                found |= {r.event.id: r.event.key for r in page if r.event.type == facts.REDRIVEN}
        assert Counter(found.values()) == Counter({f"t-{n}": 1 for n in range(LETTERS)})
        assert {each.redriven for each in await app.backend.dead_letters.list("desk", LETTERS)} == {1}
