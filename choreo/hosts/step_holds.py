"""Keeps what runs here in this host's hands, as the inbox has it, so that no other process begins it meanwhile.

Beside the host's loop, which may have to wait for its storage. What ends within a third of the lease costs nothing.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from choreo.core.errors import StorageError
from choreo.hosts.step_parts import Parts

_log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""After a renewal that failed: within what is left of the lease there must be time for more than one."""


class Holds:
    """The holds of one host."""

    def __init__(self, parts: Parts) -> None:
        """The desk of `parts` says what runs."""
        self._inbox = parts.inbox
        self._desk = parts.desk
        self._clock = parts.clock
        self._hold = parts.hold
        self._third_s = parts.hold.lease_ms / 3_000

    async def keep(self) -> None:
        """Renew, until cancelled, what has been in hand since the last time."""
        seen: set[tuple[str, str]] = set()
        while True:
            await self._clock.sleep(self._third_s)
            in_hands = {job.begun_as for job in self._desk.in_hands()}
            await self._renew(seen & in_hands)
            seen = in_hands

    async def release(self) -> None:
        """Let others begin what is not in hand any more. Raises StorageError, and then it is still to be done."""
        free = self._desk.free
        if free:
            await self._inbox.renew(free, replace(self._hold, lease_ms=0))
            self._desk.free = []

    async def _renew(self, keys: set[tuple[str, str]]) -> None:
        while keys:
            try:
                await self._inbox.renew(sorted(keys), self._hold)
            except StorageError as error:
                _log.warning("what %s does is not renewed: %s", self._hold.holder, error)
                await self._clock.sleep(min(AGAIN_S, self._third_s))
                keys &= {job.begun_as for job in self._desk.in_hands()}
            else:
                return
