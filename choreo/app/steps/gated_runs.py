"""The runs of one key as a step host's gates know them: a pure fold of the records that the gates read.

A run that has ended is kept as long as the tracker may still undo it: its compensations need its events.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.core import facts, gates, openings, recent, retired
from choreo.core.admission import stands_still
from choreo.core.attribution import run_of
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import NO_READS, Arguments, Gates, Outside, Reads, Seen
from choreo.core.identity import identified

NO_VERSIONS: Mapping[int, Reads] = {}

FIRED_MAX = 100
"""Triggers of a run whose arguments are remembered for later attempts; only steps on a cycle have more than one."""


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision about an event: it is a trigger, or with `ignored` the reason why it is none."""

    source: int
    """Offset of the record that decided."""
    run: str
    event: Outside
    ignored: str = ""
    step: str = ""
    """The only step that it triggers; "" for all steps on it that take nothing else."""
    arguments: Arguments = ()
    version: int = 1
    """Version of the run."""
    build: str = ""
    """Build of the run."""


class Fired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arguments of a step's attempts at one trigger, each the same."""

    step: str
    trigger: str
    arguments: Arguments


class GatedRun(msgspec.Struct, array_like=True, gc=False):
    """One run of a key and its gates. Times are the log's stamps in epoch milliseconds."""

    id: str
    ended_ms: int = 0
    paused_ms: int = 0
    pause_n: int = 0
    gates: Gates = Gates()
    recent: bytes = b""
    """Memory of events that named no run, and that no gate reads."""
    fired: list[Fired] = []
    version: int = 1
    """Version of the flow in its start."""
    at_close: tuple[Seen, ...] | None = None
    """The needed events that were there when its gates closed: every compensation gets these; None before that."""
    undoable: bool = False
    """Whether it may be undone after its end: it is a child, or has an effect in doubt. The tracker keeps it, too."""
    reopened: bool = False
    """Whether its compensation began after its end: a child's, whose parent is undone."""
    build: str = ""
    """Build in its start."""

    @property
    def has_end(self) -> bool:
        """Return whether an end fact of it was read."""
        return bool(self.ended_ms)

    @property
    def over_ms(self) -> int:
        """Return when it ended; 0 while it is open, or open again."""
        return 0 if self.reopened else self.ended_ms

    def has_read(self, event: Envelope) -> bool:
        """Return whether this event, which names no run, was its own before."""
        token = recent.token(event.type, event.id)
        return recent.knows(self.gates.read, token) or recent.knows(self.recent, token)


class GatedKey(msgspec.Struct, array_like=True, gc=False):
    """The runs of one key in the order of their starts, up to and including the record at `position`."""

    position: int = -1
    now_ms: int = 0
    runs: list[GatedRun] = []
    answers: list[Answer] = []
    retired: list[retired.Page] = []
    """Memory of runs that have ended, besides the newest."""

    def read(
        self, table: FlowTable, record: Record, reads: Reads = NO_READS, versions: Mapping[int, Reads] = NO_VERSIONS
    ) -> list[Answer]:
        """Fold one record in and return its decisions; a record read before decides the same again.

        `reads` are those of the flow's present version, `versions` of its others.
        """
        if record.offset <= self.position:
            return [answer for answer in self.answers if answer.source == record.offset]
        self.position, self.now_ms = record.offset, max(self.now_ms, record.stamp_ms)
        self._let_go(self.now_ms - table.flow.linger_ms)
        event = identified(record)
        run = self._started(event) if event.type == table.flow.starts else run_of(event, self.runs, self.retired)
        if run is not None and run.version in versions:
            table, reads = table.nearest(run.version), versions[run.version]
        answers = self._fold(table, reads, run, event, record) if run is not None else []
        self.answers += answers
        return answers

    @property
    def ended_ms(self) -> int:
        """Return when the last run ended; 0 while one is open."""
        if any(not run.over_ms for run in self.runs):
            return 0
        return max((run.over_ms for run in self.runs), default=1)

    def _let_go(self, limit_ms: int) -> None:
        """Forget runs that ended before that moment; of those beyond the newest keep only that they were."""
        self.retired = retired.remaining(self.retired, limit_ms)
        ended = [run for run in self.runs if run.over_ms]
        lingering = [run for run in ended if run.over_ms >= limit_ms]
        over = [run for run in lingering if not run.undoable]
        gone = over[: max(0, len(over) - retired.KEPT_MAX)]
        for run in gone:
            self.retired = retired.added(self.retired, run.id, run.ended_ms, run.gates.read + run.recent)
        if gone or len(lingering) < len(ended):
            kept = {run.id for run in lingering} - {run.id for run in gone}
            self.runs = [run for run in self.runs if not run.over_ms or run.id in kept]

    def _started(self, event: Envelope) -> GatedRun | None:
        if any(run.id == event.id for run in self.runs):
            return None
        if retired.knows(self.retired, retired.run_token(event.id)):
            return None
        self.runs.append(GatedRun(event.id, version=event.version, build=event.build))
        return self.runs[-1]

    def _fold(self, table: FlowTable, reads: Reads, run: GatedRun, event: Envelope, record: Record) -> list[Answer]:
        type_, offset, stamp_ms = event.type, record.offset, record.stamp_ms
        about = gates.outside_of(event, offset)
        if type_ in gates.CLOSES:
            run.at_close = run.gates.seen if run.at_close is None else run.at_close
            run.gates = gates.closed(run.gates, type_)
            self._ends(run, event)
        elif type_ == facts.COMPENSATION_REQUESTED:
            run.undoable = run.undoable or event.outcome < 0
        elif type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED):
            _pause(run, event, stamp_ms)
        elif type_ in table.timeouts or type_ in table.reminders:
            before = run.gates
            if not stands_still(event, run.paused_ms):
                run.gates = _timed(table, before, event, run.pause_n)
            if run.gates is not before:  # one that changes no wait is void, and no trigger either
                return [_answer_to(run, offset, about), *_came(table, reads, run, about, stamp_ms)]
        elif type_ == facts.WAIT_CLOSED:
            run.gates = openings.wait_closed(run.gates, event.step, event.trigger)
        else:
            run.undoable = run.undoable or (reads.undoes and bool(event.parent))
            return _came(table, reads, run, about, stamp_ms)
        return []

    def _ends(self, run: GatedRun, event: Envelope) -> None:
        """Take the end of a run, or the fact that it is undone after that: it is open until it ends once more."""
        token = recent.token(event.type, event.id)
        if event.type in facts.ENDS:
            if not run.ended_ms or (run.reopened and event.type != facts.FLOW_COMPLETED):
                run.ended_ms, run.reopened = max(1, self.now_ms), False
        elif run.ended_ms and not recent.knows(run.recent, token):
            run.recent, run.reopened = recent.with_new(run.recent, token), True


def _came(table: FlowTable, reads: Reads, run: GatedRun, event: Outside, stamp_ms: int) -> list[Answer]:
    run.gates, moves = gates.came(table, run.gates, event, run.paused_ms or stamp_ms, reads)
    return [answer for move in moves if (answer := _answer(reads, move, run, event.offset))]


def _pause(run: GatedRun, event: Envelope, stamp_ms: int) -> None:
    """Pause or resume as the tracker does: the highest number of the series counts, and due times stand still."""
    if event.n <= run.pause_n or run.ended_ms:
        return
    run.pause_n = event.n
    if event.type == facts.FLOW_PAUSED:
        run.paused_ms = run.paused_ms or stamp_ms
    elif run.paused_ms:
        run.gates = gates.moved(run.gates, max(0, stamp_ms - run.paused_ms))
        run.paused_ms = 0


def _timed(table: FlowTable, before: Gates, event: Envelope, pause_n: int) -> Gates:
    """Return the gates after a time-out, a reminder or an escalation; the same ones if it does not count."""
    if event.type in table.timeouts:
        return openings.timed_out(before, event, pause_n)
    return openings.reminded(table, before, event, pause_n)[0]


def _answer(reads: Reads, move: gates.Move, run: GatedRun, offset: int) -> Answer | None:
    match move:
        case gates.Ready(event):
            return _answer_to(run, offset, event)
        case gates.Triggered(step, event, arguments) if step.name in reads.steps:
            run.fired = [*run.fired, Fired(step.name, event.id, arguments)][-FIRED_MAX:]
            return _answer_to(run, offset, event, step=step.name, arguments=arguments)
        case gates.Ignored(event, reason, step=step) if not run.ended_ms and (not step or step in reads.steps):
            return _answer_to(run, offset, event, reason, step)
    return None


def _answer_to(
    run: GatedRun, offset: int, event: Outside, ignored: str = "", step: str = "", arguments: Arguments = ()
) -> Answer:
    return Answer(offset, run.id, event, ignored, step, arguments, run.version, run.build)
