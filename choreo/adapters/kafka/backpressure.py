"""Which partitions a member's client fetches nothing of, so that what waits here stays within bounds.

Paused partitions of which enough waits already; all of them while the records that wait are large.
"""

from __future__ import annotations

from collections.abc import Collection

from choreo.adapters.kafka.basket import Basket
from choreo.adapters.kafka.subscription import Subscription

HELD_BACK = 500
"""Messages of a paused partition kept before it is no longer fetched."""
WAITING_BYTES = 16 << 20
"""Bytes that may wait here. 2,000 events of an ordinary size are 2 MB; of the largest that a broker takes they would be
2 GB. The client keeps as much again, and a host twice as much: together they leave room in a container of 512 MiB."""


class Backpressure:
    """Of one member."""

    def __init__(self, basket: Basket, subscription: Subscription) -> None:
        """Everything is fetched."""
        self._basket = basket
        self._subscription = subscription
        self._held: set[int] = set()
        self._is_full = False

    def steer(self, paused: Collection[int]) -> None:
        """Hold and release what the present moment asks for; what is released is fetched again from where it was."""
        basket, waiting = self._basket, self._basket.waiting_bytes
        self._is_full = waiting >= (WAITING_BYTES // 2 if self._is_full else WAITING_BYTES)
        if self._is_full:
            wanted = set(basket.partitions())
        else:
            wanted = {p for p in paused if p in self._held or basket.size((p,)) >= HELD_BACK}
        if hold := wanted - self._held:
            self._subscription.hold(sorted(hold))
        if release := self._held - wanted:
            self._subscription.release(sorted(release))
        self._held = wanted

    def forget(self, partitions: Collection[int]) -> None:
        """These are another member's."""
        self._held.difference_update(partitions)
