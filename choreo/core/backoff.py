"""Backoff: growing delays between attempts at an operation that fails for a while.

Reads no clock, waits for nothing.
"""

from __future__ import annotations


class Backoff:
    """Delays that double from the first one up to the longest one."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        """Start with `first_s`; no delay is longer than `longest_s`."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = min(first_s, longest_s)

    def next_s(self) -> float:
        """Return the delay before the next attempt, and double the one after it."""
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, self._longest_s)
        return delay_s

    def reset(self) -> None:
        """Start again with the first delay: an attempt has succeeded."""
        self._next_s = min(self._first_s, self._longest_s)
