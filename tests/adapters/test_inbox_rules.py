"""When an outcome is certain to have left nothing: decided once, in the write that records it."""

from __future__ import annotations

import pytest

from choreo.adapters.inbox_rules import Remembered, record
from choreo.core.events import Envelope
from choreo.ports.inbox import Outcome

LOST_UP_TO_MS = 100


@pytest.mark.parametrize("stamp_ms", [0, LOST_UP_TO_MS, LOST_UP_TO_MS + 1])
@pytest.mark.parametrize("certain_if_begun", [-1, 0, 1])
@pytest.mark.parametrize("begun", [None, 0, 1, 2])
def test_a_failure_is_certain_only_where_all_attempts_are_known_to_be_counted(
    begun: int | None, certain_if_begun: int, stamp_ms: int
) -> None:
    """A trigger as old as the lost rows may have had an attempt that the inbox does not know."""
    rows = {} if begun is None else {("t", "s"): Remembered("r", begun)}
    said = Envelope("id", "PaymentDeclined", "k", "order")
    outcome = Outcome("t", "s", "r", [said], success=False, certain_if_begun=certain_if_begun, stamp_ms=stamp_ms)
    (published,), _ = record([outcome], rows, LOST_UP_TO_MS)
    assert published.certain is (certain_if_begun == (begun or 0) and stamp_ms > LOST_UP_TO_MS)


def test_the_first_failure_stands_and_is_said_again_as_it_was_recorded() -> None:
    """A later one of the same trigger is not published, and a certain outcome stays certain."""
    rows = {("t", "s"): Remembered("r", 1)}
    first = Outcome("t", "s", "r", [Envelope("id", "PaymentDeclined", "k", "order")], success=False, certain_if_begun=1)
    other = Outcome("t", "s", "r", [Envelope("id", "choreo.StepFailed", "k", "order")], success=False)
    for outcome, types in ((first, ["PaymentDeclined"]), (other, []), (first, ["PaymentDeclined"])):
        published, _ = record([outcome], rows)
        assert [(event.type, event.certain) for event in published] == [(type_, True) for type_ in types]
