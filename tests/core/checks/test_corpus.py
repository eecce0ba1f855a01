"""The corpus of broken flows: each gives exactly its codes, and each code of the table has a flow that gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from choreo.cli.check import explained
from tests.support.broken import READERS, Example, codes_of, examples

MORE = Path(__file__).with_name("corpus.md").read_text(encoding="utf-8")
CORPUS = [each for text in (explained.page(), MORE) for each in examples(text) if each.language in READERS]


@pytest.mark.parametrize("example", CORPUS, ids=lambda each: each.title[:60])
def test_a_broken_flow_gives_exactly_its_codes(example: Example, tmp_path: Path) -> None:
    """The example of a code is broken as its heading says, and in no other way."""
    assert codes_of(example, tmp_path) == example.codes
