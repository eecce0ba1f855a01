"""What the parts of one step host share: the ports they talk through, what they know, the desk they work at."""

from __future__ import annotations

from dataclasses import dataclass

from choreo.app.counters import Counters
from choreo.app.duties import Duties
from choreo.app.origins import Origins
from choreo.app.outcomes import Voice
from choreo.app.runs import Runs
from choreo.app.steps import Steps
from choreo.core.definition import FlowTable
from choreo.hosts.step_desk import Desk
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.inbox import Inbox
from choreo.ports.log import Log


@dataclass(frozen=True)
class Parts:
    """One service in one flow, in one process."""

    log: Log
    inbox: Inbox
    dead_letters: DeadLetters
    codec: Codec
    clock: Clock
    counters: Counters
    table: FlowTable
    duties: Duties
    runs: Runs
    origins: Origins
    voice: Voice
    steps: Steps
    desk: Desk

    @property
    def topic(self) -> str:
        """The flow's topic."""
        return self.table.flow.name
