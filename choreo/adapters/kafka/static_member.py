"""Report that two processes share one `group.instance.id`: each puts the other out of the group, again and again."""

from __future__ import annotations

import time

from choreo.adapters.kafka.options import ENVIRONMENT, KafkaOptions
from choreo.adapters.membership import Ticket
from choreo.ports.dependencies import Dependencies

ALONE_S = 30.0
"""A member that was not put out for so long is alone: two that compete put each other out within a heartbeat."""


class StaticMember:
    """The instance of one member. Make it when the member joins."""

    def __init__(self, options: KafkaOptions, ticket: Ticket, dependencies: Dependencies) -> None:
        """Without an instance in the options there is nothing to report."""
        self._instance = options.instance
        self._name = f"instance of {ticket.group}"
        self._place = ticket.place
        self._dependencies = dependencies
        self._alone_s = time.monotonic() + ALONE_S

    def put_out(self) -> None:
        """Report that another process has joined under this instance."""
        if self._instance:
            self._alone_s = 0.0
            self._dependencies.report(
                self._name,
                f"{self._place}: another process has joined under the instance {self._instance!r}, and took the "
                "partitions of this one",
                f"Stop one of them, or give each process a {ENVIRONMENT}GROUP_INSTANCE_ID of its own.",
            )

    def goes_on(self) -> None:
        """Clear the report once this member was alone long enough."""
        if self._alone_s and time.monotonic() >= self._alone_s:
            self._alone_s = 0.0
            self._dependencies.clear(self._name)
