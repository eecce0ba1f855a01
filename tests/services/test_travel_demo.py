"""The demo's trips: every kind is there, each with the answers that its end needs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schemas.travel import ManagerApproved, ManagerRefused, TripApproved, TripRefused
from services.demo import Demo
from services.travel.demo import APPROVED, COMPENSATED, ESCALATED, KINDS, TravelDemo


def test_twenty_trips_hold_every_kind() -> None:
    """So many of each as its share says, whatever the first number."""
    assert sum(kind.share for kind in KINDS) == 20
    for first in (0, 7, 40):
        found = Counter(TravelDemo().kind_of(number).name for number in range(first, first + 20))
        assert found == {kind.name: kind.share for kind in KINDS}


def test_every_outcome_is_among_them() -> None:
    """Of the flow, and the compensated ones."""
    assert {kind.ends for kind in KINDS} == {APPROVED, ESCALATED, COMPENSATED}


def test_the_answers_are_those_of_the_kind() -> None:
    """The manager speaks only where the customer did not."""
    demo = TravelDemo()
    answers = {}
    for number in range(20):
        key, name = f"t-{number:04}", demo.kind_of(number).name
        answers[name] = demo.answer(key, "TripOffered"), demo.answer(key, "ManagerAsked")
    kinds = {name: tuple(type(answer) for answer in both) for name, both in answers.items()}
    assert kinds["all well"] == (TripApproved, type(None))
    assert kinds["customer refuses"] == (TripRefused, type(None))
    assert kinds["manager approves"] == (type(None), ManagerApproved)
    assert kinds["manager refuses"] == (type(None), ManagerRefused)
    assert kinds["nobody approves"] == (type(None), type(None))


def test_each_trip_has_a_traveller_whose_data_says_the_fault() -> None:
    """The last one; the others are sound, so that a completed child is undone with the trip."""
    for placed in TravelDemo().orders(60):
        *others, last = placed.event.travellers
        assert others
        assert {(each.name, each.card) for each in others} == {("ada", "visa")}
        assert (last.name, last.card) == (placed.kind.traveller, placed.kind.card)


@pytest.mark.parametrize(
    ("demo", "taken"),
    [
        (Demo(), lambda event: sum(item.quantity for item in event.items)),
        (TravelDemo(), lambda event: len(event.travellers)),
    ],
)
def test_there_is_enough_for_as_many_runs_as_the_demo_allows(
    demo: Any, taken: Callable[[Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of a kind that must complete never ends because the others have taken all."""
    monkeypatch.setenv("CHOREO_BOOKS_DIR", "")  # set back after `prepare`
    demo.prepare(tmp_path)
    most = 100_000 * max(taken(placed.event) for placed in demo.orders(300))
    stocks = []
    for path in tmp_path.glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as db:
            stocks += [initial for (initial,) in db.execute("SELECT initial FROM stock")]
    assert stocks
    assert min(stocks) >= most
