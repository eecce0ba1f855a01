"""The suite of the dead letters' port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import pytest

from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.testing.conformance import Backend


def dead_letter(number: int, topic: str = "order", cause: str = "field amount: not a number") -> DeadLetter:
    """Return a dead letter about the record at that offset."""
    record = Record(topic, 0, number, 1, Envelope(f"e-{number}", "OrderPlaced", "o-1", topic, data=b"\xff"))
    return DeadLetter(f"l-{number}", topic, 0, number, "payment", "payment.charge", cause, 1_000 + number, record)


class DeadLettersSuite:
    """The store of records that could not be handled."""

    async def test_a_dead_letter_is_kept_whole_and_once(self, backend: Backend) -> None:
        """Ignore a second one of the same id."""
        dead_letters = backend.dead_letters
        await dead_letters.add([dead_letter(1)])
        await dead_letters.add([dead_letter(1, cause="something else"), dead_letter(2)])
        assert await dead_letters.get("l-1") == dead_letter(1)
        assert await dead_letters.count() == 2

    async def test_the_newest_comes_first_page_by_page(self, backend: Backend) -> None:
        """Keep the pages when a new dead letter arrives; list each topic by itself."""
        dead_letters = backend.dead_letters
        await dead_letters.add([dead_letter(n) for n in range(5)])
        await dead_letters.add([dead_letter(10, "refund")])
        page = await dead_letters.list("order", limit=2)
        assert [found.id for found in page] == ["l-4", "l-3"]
        await dead_letters.add([dead_letter(6)])
        assert [found.id for found in await dead_letters.list("order", 10, page[-1].id)] == ["l-2", "l-1", "l-0"]
        assert [found.id for found in await dead_letters.list(limit=3)] == ["l-6", "l-10", "l-4"]
        assert await dead_letters.count("order") == 6
        assert await dead_letters.count("refund") == 1

    async def test_redrives_are_counted(self, backend: Backend) -> None:
        """Keep the dead letter, with the number of its redrives."""
        dead_letters = backend.dead_letters
        await dead_letters.add([dead_letter(1)])
        await dead_letters.redriven("l-1")
        await dead_letters.redriven("l-1")
        assert (await dead_letters.get("l-1")).redriven == 2

    async def test_an_unknown_dead_letter_is_an_error(self, backend: Backend) -> None:
        """Raise NotFoundError from every method."""
        dead_letters = backend.dead_letters
        with pytest.raises(NotFoundError, match="no dead letter 'l-1'"):
            await dead_letters.get("l-1")
        with pytest.raises(NotFoundError):
            await dead_letters.redriven("l-1")
        with pytest.raises(NotFoundError):
            await dead_letters.list(after="l-1")
