"""An error as data for people: a group with the errors in it, within the bound."""

from __future__ import annotations

from typing import Any

import msgspec

from choreo.app.failures import FAILURE_BYTES, Failure, failure_of, look


def fail(error: Exception) -> None:
    """Raise the error."""
    raise error


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    try:
        fail(error)
    except Exception as caught:  # noqa: BLE001 - the error itself is looked at
        return caught
    return error


def test_a_group_shows_the_errors_in_it() -> None:
    """Also those of inner groups, in order, each with the place where it was raised."""
    inner = ExceptionGroup("inner", [KeyError("b"), OSError("c")])
    failure = look(raised(ExceptionGroup("outer", [raised(ValueError("a")), inner])))
    assert failure.message.startswith("outer (2 sub-exceptions)")
    assert [member.partition(",")[0] for member in failure.members] == ["ValueError: a", "KeyError: 'b'", "OSError: c"]
    assert "in fail: raise error" in failure.members[0]


def test_a_group_that_is_a_cause_shows_them_too() -> None:
    """The cause says more than the exception that was raised from it."""
    error = RuntimeError("no answer")
    error.__cause__ = ExceptionGroup("all", [ValueError("a")])
    failure = look(error)
    assert (failure.causes, failure.members) == (["ExceptionGroup: all (1 sub-exception)"], ["ValueError: a"])


def test_a_large_group_stays_within_the_bound() -> None:
    """Its first members are shown, and how many more there are."""
    many: Any = [ValueError(f"{number} " + "x" * 1_000) for number in range(1_000)]
    data = failure_of(raised(ExceptionGroup("many", many)))
    failure = msgspec.json.decode(data, type=Failure)
    assert len(data) <= FAILURE_BYTES
    assert failure.members[0].startswith("ValueError: 0 ")
    assert failure.members[-1] == "and 992 more"
