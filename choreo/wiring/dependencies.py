"""Look at what a process rests on while nothing else does: an idle role reports what an active one would meet."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from choreo.core.errors import LostStorageError, StorageError, UnavailableError

LOOK_S = 2.0
"""A few small requests to each server every 2 s; a condition is seen within that time by an idle role."""

_log = logging.getLogger(__name__)


class Checked(Protocol):
    """A home that can look whether it is usable."""

    async def check(self) -> None:
        """Report each dependency that cannot be used, clear each that can; raises what must end the process."""
        ...


async def watch(home: Checked, stop: asyncio.Event, look_s: float = LOOK_S) -> None:
    """Check the home now and then until `stop` is set; raises what must end the process."""
    while not stop.is_set():
        try:
            await home.check()
        except LostStorageError:
            raise
        except (StorageError, UnavailableError) as error:
            _log.debug("check: %s", error)  # reported by the part that met it
        with suppress(TimeoutError):
            async with asyncio.timeout(look_s):
                await stop.wait()
