"""The table of codes: each is unique, and explained with an example and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from choreo.cli.check import explained
from choreo.core.checks.codes import CODES
from choreo.core.checks.finding import names_in

CHECKS = Path(__file__).parents[3] / "choreo" / "core" / "checks"


def test_each_code_has_its_section_with_its_title_in_order() -> None:
    """The table and the page name the same codes."""
    assert [*explained.titles().items()] == [(each.code, each.title) for each in CODES.values()]
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_section_has_the_failure_an_example_and_the_remedy(code: str) -> None:
    """In this order: first why it matters, last how to mend it."""
    text = explained.sections()[code]
    assert re.match(r"[^\n]{20,}.*?\n\n```\w+\n.+?```\n.*?\*\*Remedy\.\*\* \S", text, re.DOTALL)
    assert f"{{#{code.lower()}}}" in explained.page()


def test_the_checks_give_no_other_codes() -> None:
    """A code in the source stands in the table."""
    sources = [*CHECKS.glob("*.py"), CHECKS.parent / "serving.py"]
    used = {code for path in sources for code in re.findall(r'"(C\d{3})"', path.read_text(encoding="utf-8"))}
    assert used <= CODES.keys()
    assert len(used) > 70


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("flow order, step payment.charge", ("order", "payment.charge")),
        ("flow order, wait.Picked and wait.Sent", ("order", "wait.Picked", "wait.Sent")),
        ("flow order, steps payment.charge, stock.more", ("order", "payment.charge", "stock.more")),
        ("flow order, event Undone", ("order", "Undone")),
        ("flow order, undo of step payment.charge", ("order", "payment.charge")),
    ],
)
def test_a_place_names_its_parts(where: str, names: tuple[str, ...]) -> None:
    """Suppressions and lines are found by them."""
    assert names_in(where) == names
