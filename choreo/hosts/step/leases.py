"""Lease renewal: while an attempt runs here, the inbox lets no other process begin it.

Runs beside the host's loop, which may have to wait for its storage. An attempt that ends within a third of the lease
costs nothing, and so does a host without attempts.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from choreo.core.errors import StorageError
from choreo.hosts.step.context import HostContext
from choreo.hosts.step.work_queue import WorkQueue

_log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""The delay after a renewal that failed: within the rest of the lease there must be time for more than one."""


class LeaseRenewal:
    """The leases on the attempts of one host."""

    def __init__(self, context: HostContext, queue: WorkQueue) -> None:
        """Renew the leases of the open attempts in `queue`."""
        self._inbox = context.ports.inbox
        self._clock = context.ports.clock
        self._lease = context.lease
        self._third_s = context.lease.lease_ms / 3_000
        self._queue = queue
        self._has_attempts = asyncio.Event()

    def started(self) -> None:
        """Note that attempts have started: their leases have to be kept."""
        self._has_attempts.set()

    async def keep(self) -> None:
        """Renew, until cancelled, the leases that are older than one round."""
        before: set[tuple[str, str]] = set()
        while True:
            await self._has_attempts.wait()
            await self._clock.sleep(self._third_s)
            leased = self._queue.leased()
            await self._renew(before & leased)
            before = leased
            if not leased:
                self._has_attempts.clear()

    async def release(self) -> None:
        """Let other processes begin the attempts that ended here without an outcome.

        Raises StorageError; then the leases are still to be released.
        """
        ended = self._queue.released()
        if ended:
            await self._inbox.renew(ended, replace(self._lease, lease_ms=0))
            self._queue.forget_released(len(ended))

    async def _renew(self, keys: set[tuple[str, str]]) -> None:
        while keys:
            try:
                await self._inbox.renew(sorted(keys), self._lease)
            except StorageError as error:
                _log.warning("leases of %s are not renewed: %s", self._lease.holder, error)
                await self._clock.sleep(min(AGAIN_S, self._third_s))
                keys &= self._queue.leased()
            else:
                return
