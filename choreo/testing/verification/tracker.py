"""The tracker of one key: the fold of the log by the real core, its outbox and its timers.

The log is folded as it grows. A tracker that lags publishes its decisions later, in the same order, so
that its lag is the delay of its outbox: any number of other records may come before the next decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.core import timers
from choreo.core.errors import described
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.run_view import Invariant
from choreo.core.state import KeyState, Run, encode
from choreo.testing.verification import canonical, promises
from choreo.testing.verification.canonical import KEY, NOW_MS
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.routing import fields_of

_LATER_MS = NOW_MS + 10**12
"""After every due time of a canonical state."""


class Folded(NamedTuple):
    """The state after a record, and the promise that the change breaks."""

    state: int
    wrong: str


class Fact(NamedTuple):
    """A fact that the tracker may publish next."""

    label: str
    record: int
    timer: bool = False


class Tracker:
    """The states of one key, by number."""

    def __init__(
        self,
        table: FlowTable,
        records: Pool[Envelope],
        invariants: Sequence[Invariant] = (),
        *,
        reduced: bool = True,
        later: FlowTable | None = None,
    ) -> None:
        """Fold by this table; with `reduced` off, states keep their positions, times and orders.

        `later` is the table of a later version of the flow, which knows this one, and folds once it is deployed.
        """
        self.table = table
        self._deployed: tuple[FlowTable, ...] = (table, later or table)
        self.states: Pool[KeyState] = Pool()
        self.wrong: dict[int, str] = {}
        """State → the promise or invariant that it breaks by itself."""
        self._records = records
        self._invariants = invariants
        self._reduced = reduced
        self._folded: dict[tuple[int, int, int], Folded] = {}
        self._facts: dict[tuple[int, int], tuple[Fact, ...]] = {}
        self._forms: dict[int, int] = {}
        self._canonical: Pool[bytes] = Pool()
        self.nothing: int = self._number(KeyState(canonical.POSITION, NOW_MS))

    def after(self, state: int, record: int, deployed: int = 0) -> Folded:
        """Return the state after a record; a timer fact is stamped at its due time."""
        known = self._folded.get((state, record, deployed))
        if known is None:
            known = self._folded[state, record, deployed] = self._fold(state, self._records[record], deployed)
        return known

    def facts(self, state: int, deployed: int = 0) -> tuple[Fact, ...]:
        """Return the oldest decision of each run, and every timer fact that time can make true."""
        known = self._facts.get((state, deployed))
        if known is None:
            known = self._facts[state, deployed] = tuple(self._all(self.states[state], self._deployed[deployed]))
        return known

    def run(self, state: int, run_id: str) -> Run | None:
        """Return a run."""
        return self.states[state].run(run_id)

    def form(self, state: int) -> int:
        """Return the number of a state's canonical form."""
        return self._forms[state]

    def _fold(self, number: int, event: Envelope, deployed: int) -> Folded:
        before = self.states[number]
        record = self.record(before, event)
        try:
            after, decisions = react(self._deployed[deployed], before, record)
        except Exception as error:  # noqa: BLE001 - a fold that raises is a fault to be shown
            return Folded(number, f"the fold raised {described(error)}")
        wrong = promises.of_change(self.table, before, record, after, decisions)
        return Folded(self._number(after), wrong)

    def record(self, before: KeyState, event: Envelope) -> Record:
        """Return the event as the next record of the log."""
        stamp_ms = max(event.due_ms, before.now_ms + 1)
        fields = fields_of(event) if event.type in self.table.decoded else None
        return Record(self.table.flow.name, 0, before.position + 1, stamp_ms, event, fields=fields)

    def _number(self, found: KeyState) -> int:
        form = canonical.state(found)
        text = encode(form)
        kept = form if self._reduced else found
        number = self.states.number(kept, text if self._reduced else encode(found))
        if number not in self._forms:
            self._forms[number] = self._canonical.number(text)
            self.wrong[number] = promises.of_state(self.table, kept) or promises.of_flow(
                self.table, kept, self._invariants
            )
        return number

    def _all(self, state: KeyState, table: FlowTable) -> Iterator[Fact]:
        for run in state.runs:
            if run.outbox:
                yield self._fact("tracker publishes", run.outbox[0])
        for fact in due_facts(table, state):
            yield self._fact("time passes:", fact)._replace(timer=True)

    def _fact(self, label: str, fact: Envelope) -> Fact:
        about = f" of {fact.step}" if fact.step else ""
        return Fact(f"{label} {fact.type}{about}", self._records.number(canonical.fact(fact)))


def due_facts(table: FlowTable, state: KeyState) -> list[Envelope]:
    """Return the timer facts of a state that time can make true; of reminders the next one alone."""
    found = timers.due(table, KEY, state, _LATER_MS)
    reminded = {(run.id, wait.name): wait.reminded for run in state.runs for wait in run.waits}
    return [
        fact
        for fact in found
        if fact.type not in table.reminders
        or fact.type != table.reminders[fact.type].remind
        or fact.n == reminded.get((fact.run, fact.step), 0) + 1
    ]


def early(event: Envelope, state: KeyState, table: FlowTable) -> Record:
    """Return a timer fact as a record that is stamped before its due time."""
    return Record(table.flow.name, 0, state.position + 1, event.due_ms - 1, replace(event, time_ms=0))
