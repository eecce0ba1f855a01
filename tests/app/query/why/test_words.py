"""The words of `why`: every cause has them, and the page for people lists each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from choreo.app.query.why.facts import GroupFacts
from choreo.app.query.why.words import WORDS, Cause

ROOT = Path(__file__).parents[4]


def test_marks_of_transactions_are_no_lag() -> None:
    """On Kafka the end may stand behind a mark that is no record: a tracker that has read all is not behind."""
    group = GroupFacts("tracker", [], 0, committed=7, end=8, unread_ms=0)
    assert group.lag == 0
    assert replace(group, unread_ms=1).lag == 1


def test_the_page_has_every_cause() -> None:
    """The page for people lists each fault once, and names those causes with which nothing is wrong."""
    page = (ROOT / "docs" / "how-to" / "why.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(cause for cause in Cause if not WORDS[cause].healthy)
    healthy = page.partition("Nothing is wrong where the cause is")[2].partition(".")[0]
    assert set(re.findall(r"`([a-z-]+)`", healthy)) == {cause for cause in Cause if WORDS[cause].healthy}


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_words(cause: Cause) -> None:
    """A fault has a next command; where nothing is wrong, nothing has to be done."""
    words = WORDS[cause]
    assert words.sentence
    assert words.remedy.endswith(".")
    assert words.healthy or words.command
