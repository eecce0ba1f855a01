"""What the parts of one step host share: the ports they talk through, what they know, the desk they work at."""

from __future__ import annotations

from typing import NamedTuple

from choreo.app.counters import Counters
from choreo.app.duties import Duties
from choreo.app.gates import GateBook, gates_of
from choreo.app.outcomes import Voice
from choreo.app.put_off import PutOff
from choreo.app.runs import Runs
from choreo.app.steps import Steps
from choreo.core.declare import Service
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.hosts.step_desk import Desk
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.inbox import Hold, Inbox
from choreo.ports.log import Log


class Ports(NamedTuple):
    """What lies outside; the inbox is the service's."""

    log: Log
    inbox: Inbox
    dead_letters: DeadLetters
    codec: Codec
    clock: Clock
    log_clock: Clock
    """Judges whether a deadline has passed before an attempt begins."""


class Parts:
    """One service in one flow, in one process."""

    def __init__(
        self,
        service: Service,
        flow: FlowDefinition,
        ports: Ports,
        counters: Counters,
        hold: Hold,
        limits: tuple[int, int],
        *,
        tracebacks: bool,
    ) -> None:
        """`flow` may be scaled; `hold` is this host's; `limits` are those of `Desk`. `tracebacks`: see `Voice`."""
        self.log: Log = ports.log
        self.inbox: Inbox = ports.inbox
        self.dead_letters: DeadLetters = ports.dead_letters
        self.codec: Codec = ports.codec
        self.clock: Clock = ports.clock
        self.log_clock: Clock = ports.log_clock
        self.counters = counters
        self.hold = hold
        self.topic: str = flow.name
        self.table: FlowTable = FlowTable(flow)
        self.duties: Duties = Duties(service, self.table)
        self.runs: Runs = Runs()
        self.gates: GateBook = gates_of(self.table, self.duties.by_trigger, ports.inbox)
        self.put_off: PutOff = PutOff()
        self.voice: Voice = Voice(flow.name, service.name, ports.codec, key=flow.key, tracebacks=tracebacks)
        self.steps: Steps = Steps(self.voice)
        self.desk: Desk = Desk(*limits, len(self.duties.forward))
