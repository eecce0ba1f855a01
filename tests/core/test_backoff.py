"""Delays between attempts at something that fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from choreo.core.backoff import Backoff

seconds = st.floats(0.001, 1_000)


@given(first_s=seconds, longest_s=seconds, attempts=st.integers(1, 40))
def test_each_delay_is_twice_the_one_before_and_none_exceeds_the_longest(
    first_s: float, longest_s: float, attempts: int
) -> None:
    """A short outage costs little time, a long one costs few attempts."""
    backoff = Backoff(first_s, longest_s)
    assert [backoff.next_s() for _ in range(attempts)] == [min(first_s * 2**n, longest_s) for n in range(attempts)]


@given(first_s=seconds, longest_s=seconds, failures=st.integers(0, 40))
def test_a_success_starts_with_the_first_delay_again(first_s: float, longest_s: float, failures: int) -> None:
    """The next outage is a new one."""
    backoff = Backoff(first_s, longest_s)
    for _ in range(failures):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == min(first_s, longest_s)
