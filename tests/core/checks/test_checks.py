"""The checks together: flows that start, flows that do not, and all findings at once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.checks.checks import check, require, require_name
from choreo.core.definition import FlowDefinition, export, load
from choreo.core.errors import DeclarationError
from tests.core.checks import names, test_flow, times
from tests.core.plain import CHARGE, CONFIRM, RESERVE, STEPS, flow, published

ERRORS = {**names.ERRORS, **times.ERRORS, **test_flow.ERRORS}
WARNINGS = {**names.WARNINGS, **times.WARNINGS, **test_flow.WARNINGS}

NO_TIME = replace(CHARGE, timeout_ms=0)
NO_TIME_SAID = "flow order, step payment.charge: its timeout or deadline leaves no time. Give durations above 0."


@pytest.mark.parametrize(("wrong", "sentence"), ERRORS.values(), ids=list(ERRORS))
def test_a_mistake_is_an_error(wrong: FlowDefinition, sentence: str) -> None:
    """The sentence names the step and the remedy."""
    assert sentence in published("error", wrong)


@pytest.mark.parametrize(("doubtful", "sentence"), WARNINGS.values(), ids=list(WARNINGS))
def test_a_doubtful_declaration_is_a_warning(doubtful: FlowDefinition, sentence: str) -> None:
    """The flow starts; no other finding is reported."""
    assert (published("error", doubtful), published("warning", doubtful)) == ([], [sentence])


def test_a_flow_with_one_mistake_does_not_start() -> None:
    """The error has the finding's three parts."""
    with pytest.raises(DeclarationError) as raised:
        require(flow(RESERVE, NO_TIME, CONFIRM))
    assert raised.value.sentence == NO_TIME_SAID
    assert raised.value.where == "flow order, step payment.charge"
    assert raised.value.remedy == "Give durations above 0."


def test_all_mistakes_are_said_at_once() -> None:
    """The author of a flow mends everything in one round."""
    with pytest.raises(DeclarationError) as raised:
        require(flow(RESERVE, NO_TIME, CONFIRM, hops_max=-1))
    assert str(raised.value) == (
        "flow order: 2 mistakes\n"
        f"  - {NO_TIME_SAID}\n"
        "  - flow order: max_hops=-1. Give 0, or the bound of the flow's cycle."
    )


def test_a_warning_lets_a_flow_start_and_stands_behind_the_errors() -> None:
    """Errors come first in the list, and only they are raised."""
    require(flow(*STEPS, hops_max=5))
    both = flow(RESERVE, NO_TIME, CONFIRM, hops_max=5)
    assert [finding.level for finding in check(both)] == ["error", "warning"]


def test_a_flow_loaded_from_json_is_held_to_the_same_rules() -> None:
    """The checks read the plain definition, wherever it comes from."""
    wrong = flow(RESERVE, NO_TIME, CONFIRM)
    assert check(load(export(wrong))) == check(wrong)


@pytest.mark.parametrize("name", ["", "9lives", "a.b", "a b", "café", "<lambda>", "x" * 101, "choreo", "wait"])
def test_a_name_fits_topics_headers_and_urls(name: str) -> None:
    """A name is refused where it is declared."""
    with pytest.raises(DeclarationError, match="Give it another name"):
        require_name(name, "service")
