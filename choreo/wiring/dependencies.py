"""Check the dependencies of an idle process: an idle role reports the conditions that an active one would meet."""

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
    """A backend that can check whether it is usable."""

    async def check(self) -> None:
        """Report each dependency that cannot be used, clear each that can; raises errors that must end the process."""
        ...


async def watch(backend: Checked, stop: asyncio.Event, look_s: float = LOOK_S) -> None:
    """Check the backend every `look_s` until `stop` is set; raises errors that must end the process."""
    while not stop.is_set():
        try:
            await backend.check()
        except LostStorageError:
            raise
        except (StorageError, UnavailableError) as error:
            _log.debug("check: %s", error)  # reported by the part that met it
        with suppress(TimeoutError):
            async with asyncio.timeout(look_s):
                await stop.wait()
