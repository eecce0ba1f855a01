"""Token buckets: how many requests a caller may make, and how many wrong credentials an address may send.

Counts by the elapsed clock, which nobody sets. Bounded: the buckets that were not used for longest are dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from choreo.ports.clock import Clock

BUCKETS_MAX = 10_000
"""About 2 MB. An attacker with more addresses than that gets fresh buckets, and guesses at 256 bits all the same."""


class Buckets:
    """One bucket of tokens for each caller; full at first, filled again at a fixed rate."""

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        """Take the rate and the size of a bucket; a rate of 0 sets no limit."""
        self._per_ms = per_s / 1_000
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def wait_s(self, owner: Hashable) -> float:
        """Return the seconds until the owner's bucket has a token; 0 where it has one now. Takes none."""
        if not self._per_ms:
            return 0
        return max(0.0, 1 - self._tokens(owner)) / self._per_ms / 1_000

    def take(self, owner: Hashable) -> float:
        """Take a token and return 0; return the seconds until there is one, where there is none."""
        wait_s = self.wait_s(owner)
        if self._per_ms and not wait_s:
            self._left[owner] = self._tokens(owner) - 1, self._clock.elapsed_ms()
            self._left.move_to_end(owner)
            if len(self._left) > BUCKETS_MAX:
                self._left.popitem(last=False)
        return wait_s

    def _tokens(self, owner: Hashable) -> float:
        left, at_ms = self._left.get(owner, (self._burst, 0))
        return min(self._burst, left + (self._clock.elapsed_ms() - at_ms) * self._per_ms)
