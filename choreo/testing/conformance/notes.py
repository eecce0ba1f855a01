"""The suite of the notes' port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import asyncio
from typing import Protocol

from choreo.ports.notes import Notes


class Noted(Protocol):
    """A backend, or stores, with notes."""

    @property
    def notes(self) -> Notes:
        """Return the notes."""
        ...


class NotesSuite:
    """Small named texts. A test gives the fixture `noted`, new and empty."""

    async def test_a_note_is_replaced_by_those_who_know_it(self, noted: Noted) -> None:
        """Refuse a writer with an older text, and one who takes the note for new."""
        notes = noted.notes
        assert await notes.get("batch/1") == ""
        assert await notes.swap("batch/1", "one", "")
        assert not await notes.swap("batch/1", "another", "")
        assert not await notes.swap("batch/1", "two", "none")
        assert await notes.swap("batch/1", "two", "one")
        assert (await notes.get("batch/1"), await notes.get("batch/2")) == ("two", "")

    async def test_of_writers_at_once_one_is_first(self, noted: Noted) -> None:
        """Let the first through, and refuse all others."""
        took = await asyncio.gather(*(noted.notes.swap("index", str(number), "") for number in range(10)))
        assert took.count(True) == 1
        assert await noted.notes.get("index") == str(took.index(True))

    async def test_a_note_may_be_long_and_hold_any_text(self, noted: Noted) -> None:
        """Keep two megabytes, quotes and all scripts as they are."""
        text = 'a "quoted" \\ text, Zürich, 東京, 🍋; ' * 50_000
        assert await noted.notes.swap("long", text, "")
        assert await noted.notes.get("long") == text
