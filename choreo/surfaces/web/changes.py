"""Changes of the read model, watched once for all viewers of a process, and only while there are any.

A viewer waits for the next look; it never asks a store itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b

from choreo.app.query.freshness import Freshness
from choreo.app.query.queries import Queries
from choreo.core.errors import ChoreoError

LOOK_S = 0.1
"""A person sees a change within half a second; ten looks a second at one flow are ten indexed reads."""
LOOK_PER_FLOW_S = 0.02
"""With many flows the looks become fewer, so that their reads stay at some fifty a second."""

_log = logging.getLogger(__name__)


class Changes:
    """The newest known state of each watched flow."""

    def __init__(self, queries: Queries) -> None:
        """Read nothing yet."""
        self._queries = queries
        self._viewers: Counter[str] = Counter()
        self._known: dict[str, Freshness] = {}
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.looks: int = 0
        """Looks so far, for tests: their number does not depend on that of the viewers."""
        self.fault: str = ""
        """Why the last look failed; empty where it did not."""

    @contextmanager
    def watched(self, flows: Iterable[str]) -> Iterator[None]:
        """Watch these flows until the block ends."""
        names = list(flows)
        self._viewers.update(names)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_on())
        try:
            yield
        finally:
            self._viewers.subtract(names)
            self._viewers += Counter()  # without those that nobody watches

    async def next_look(self) -> None:
        """Wait for the next look."""
        await self._looked.wait()

    def known(self, flows: Iterable[str]) -> list[Freshness]:
        """Return the newest known states of these flows; of one that was not looked at yet none."""
        return [self._known[name] for name in flows if name in self._known]

    async def _look_on(self) -> None:
        while self._viewers:
            await self._look()
            self._looked.set()
            self._looked = asyncio.Event()
            await asyncio.sleep(max(LOOK_S, LOOK_PER_FLOW_S * len(self._viewers)))
        self._known.clear()

    async def _look(self) -> None:
        self.looks += 1
        try:
            for name in list(self._viewers):
                self._known[name] = await self._queries.freshness(name)
            self.fault = ""
        except ChoreoError as error:
            # Streams go on and say so; the next look may succeed.
            if not self.fault:
                _log.warning("the page cannot see changes: %s", error)
            self.fault = error.what


def mark_of(states: Iterable[Freshness], partition: int = -1) -> str:
    """Return a short mark of the positions of one partition, or of all: another one where anything has changed."""
    shown: Mapping[str, object] = {
        state.flow: state.positions.get(partition) if partition >= 0 else sorted(state.positions.items())
        for state in states
    }
    return blake2b(repr(sorted(shown.items())).encode(), digest_size=8).hexdigest() if shown else ""
