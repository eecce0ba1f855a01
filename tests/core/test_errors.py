"""The error tree: every error names fault, place and remedy."""

from __future__ import annotations

import pytest

from choreo.core import errors
from choreo.core.errors import ChoreoError, ConflictError


def test_an_error_is_one_sentence_of_three_parts() -> None:
    """The parts stay apart too, for the REST view, which shows them in its own form."""
    error = ConflictError("the run is paused", where="order o-1", remedy="Resume it first.")
    assert str(error) == "order o-1: the run is paused. Resume it first."
    assert (error.what, error.where, error.remedy) == ("the run is paused", "order o-1", "Resume it first.")


def test_a_part_that_says_nothing_is_left_out() -> None:
    """No empty colon, no full stop after nothing."""
    assert str(ChoreoError("it broke")) == "it broke"


@pytest.mark.parametrize(
    "error", [e for e in vars(errors).values() if isinstance(e, type) and e is not errors.NonRetryableError]
)
def test_every_error_of_choreo_has_one_root(error: type[Exception]) -> None:
    """One `except` catches them all."""
    assert issubclass(error, ChoreoError)


def test_a_handlers_refusal_to_be_tried_again_is_none_of_them() -> None:
    """NonRetryableError is raised by users; an `except ChoreoError` around choreo does not swallow it."""
    assert not issubclass(errors.NonRetryableError, ChoreoError)
