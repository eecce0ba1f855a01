"""Two processes that share one `group.instance.id` put each other out of the group: report it, and let both work."""

from __future__ import annotations

import asyncio
import random
import time

from choreo.adapters.kafka.options import ENVIRONMENT
from choreo.core.backoff import Backoff
from choreo.ports.dependencies import Dependencies

ALONE_S = 30.0
"""A member that was not fenced for so long is alone: two that compete fence each other within a heartbeat."""
YIELD_FIRST_S, YIELD_MOST_S = 1.0, 10.0
"""The longest delays before the first and the later returns of a member that was fenced."""


class StaticMembership:
    """One process's use of its instance in one group, through all its members there.

    Two processes of one instance fence each other. If each came back at once, neither would be there long enough to
    do any work: so each delays its return, for longer each time, and the other works meanwhile.
    """

    def __init__(self, instance: str, topic: str, group: str, dependencies: Dependencies) -> None:
        """Do nothing where `instance` is empty: then the process shares it with nobody."""
        self._instance = instance
        self._name = f"instance of {group}"
        self._place = f"group {group!r} on topic {topic!r}"
        self._dependencies = dependencies
        self._backoff = Backoff(YIELD_FIRST_S, YIELD_MOST_S)
        self._return_s = 0.0
        self._alone_s = 0.0

    async def wait_to_join(self) -> None:
        """Wait until this process may join again after it was fenced."""
        await asyncio.sleep(max(0.0, self._return_s - time.monotonic()))
        self._alone_s = time.monotonic() + ALONE_S

    def put_out(self) -> None:
        """Report that another process has joined under this instance; again for the same member changes nothing."""
        if self._instance and time.monotonic() >= self._return_s:
            self._alone_s = 0.0
            # Half of the delay is random: else two processes that began together would stay in step.
            self._return_s = time.monotonic() + self._backoff.next_s() * random.uniform(0.5, 1.0)  # noqa: S311
            self._dependencies.report(
                self._name,
                f"{self._place}: another process has joined under the instance {self._instance!r}, and owns the "
                "partitions of this one",
                f"Stop one of them, or give each process a {ENVIRONMENT}GROUP_INSTANCE_ID of its own.",
            )

    def goes_on(self) -> None:
        """Clear the report once this process was alone long enough."""
        if self._alone_s and time.monotonic() >= self._alone_s:
            self._alone_s = 0.0
            self._backoff.reset()
            self._dependencies.clear(self._name)
