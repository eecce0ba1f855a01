"""The suite of the dead letters' port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import pytest

from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.testing.conformance import Home


def letter(number: int, topic: str = "order", cause: str = "field amount: not a number") -> DeadLetter:
    """A letter about the record at that offset."""
    record = Record(topic, 0, number, 1, Envelope(f"e-{number}", "OrderPlaced", "o-1", topic, data=b"\xff"))
    return DeadLetter(f"l-{number}", topic, 0, number, "payment", "payment.charge", cause, 1_000 + number, record)


class DeadLettersSuite:
    """What is kept of what could not be handled."""

    async def test_a_letter_is_kept_whole_and_once(self, home: Home) -> None:
        """A second one of the same id changes nothing."""
        letters = home.dead_letters
        await letters.add([letter(1)])
        await letters.add([letter(1, cause="something else"), letter(2)])
        assert await letters.get("l-1") == letter(1)
        assert await letters.count() == 2

    async def test_the_newest_comes_first_page_by_page(self, home: Home) -> None:
        """A new letter moves no page; a topic has its own list."""
        letters = home.dead_letters
        await letters.add([letter(n) for n in range(5)])
        await letters.add([letter(10, "refund")])
        page = await letters.list("order", limit=2)
        assert [found.id for found in page] == ["l-4", "l-3"]
        await letters.add([letter(6)])
        assert [found.id for found in await letters.list("order", 10, page[-1].id)] == ["l-2", "l-1", "l-0"]
        assert [found.id for found in await letters.list(limit=3)] == ["l-6", "l-10", "l-4"]
        assert await letters.count("order") == 6
        assert await letters.count("refund") == 1

    async def test_redrives_are_counted(self, home: Home) -> None:
        """The letter stays, with how often it was given back."""
        letters = home.dead_letters
        await letters.add([letter(1)])
        await letters.redriven("l-1")
        await letters.redriven("l-1")
        assert (await letters.get("l-1")).redriven == 2

    async def test_a_letter_that_is_not_there_is_said(self, home: Home) -> None:
        """By every door."""
        letters = home.dead_letters
        with pytest.raises(NotFoundError, match="no dead letter 'l-1'"):
            await letters.get("l-1")
        with pytest.raises(NotFoundError):
            await letters.redriven("l-1")
        with pytest.raises(NotFoundError):
            await letters.list(after="l-1")
