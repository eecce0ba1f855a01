"""The whole system as one tuple of numbers, and every move that leads from it to another.

A state is (log, a record on its way, budget, host, host, …). A move appends records to the log; each is folded by the
tracker and read by the hosts at once, while their answers may come arbitrarily late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from choreo.core import facts
from choreo.core.crossing import ORDERS
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.run_view import Invariant
from choreo.core.state import REQUESTED, KeyState, Run
from choreo.testing.verification import canonical, ends, promises
from choreo.testing.verification.adversary import Adversary, Left
from choreo.testing.verification.host import Host
from choreo.testing.verification.host_state import Job
from choreo.testing.verification.marks import NO_MARK, Marks
from choreo.testing.verification.payloads import payloads_of
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.reductions import NONE, reduces_of
from choreo.testing.verification.routing import Routing
from choreo.testing.verification.tracker import Fact, Tracker
from choreo.testing.verification.transitions import Step, Transitions

State: TypeAlias = tuple[int, ...]
LOG, FLIGHT, BUDGET, HOSTS = range(4)
NOTHING = -1

Move: TypeAlias = tuple[str, State, bool, str]
"""Label, next state, whether it comes about by itself (a fault or a person's wish need not), broken promise."""


class Log(NamedTuple):
    """The effect of all records of the log, by number: the tracker's state, the marks of runs, the gates."""

    tracker: int
    marks: int
    gates: int
    orders: int = 0
    """The orders to children, in their order."""
    deployed: int = 0
    """Whether the later version of the flow is deployed."""


class Appended(NamedTuple):
    """The consequences of one record."""

    log: int
    jobs: tuple[tuple[int, Job], ...]
    wrong: str


class World:
    """One flow, its hosts and its adversary."""

    def __init__(
        self,
        flow: FlowDefinition,
        budget: Mapping[str, int],
        invariants: Sequence[Invariant] = (),
        *,
        reduced: bool = True,
        families: Mapping[str, FlowDefinition] | None = None,
        parent: str = "",
        later: FlowDefinition | None = None,
    ) -> None:
        """Build the parts; with `reduced` off nothing is merged that differs in any way.

        `families`: step that starts children → their flow; `parent`: place of a run that is a child itself.
        `later`: a later version of the flow, which is deployed at any time; `flow` is frozen in it.
        """
        self.table: FlowTable = FlowTable(canonical.explored(flow))
        table = self.table
        self.records: Pool[Envelope] = Pool[Envelope]()
        records = self.records
        data = payloads_of(table)
        known = families or {}
        steps = [s for s in flow.steps if s.name not in table.reactions and (s.children is None or s.name in known)]
        reduces = reduces_of(budget) if reduced else NONE
        self.hosts: list[Host] = [
            Host(Transitions(table, step, records, data, reduces, known.get(step.name))) for step in steps
        ]
        self.tracker: Tracker = Tracker(
            table, records, invariants, reduced=reduced, later=FlowTable(canonical.deployed(later)) if later else None
        )
        self._later = later.version if later else 0
        self.adversary: Adversary = Adversary(table, records, budget, data, parent)
        self.logs: Pool[Log] = Pool()
        self.orders: Pool[tuple[int, ...]] = Pool()
        self.orders.number(())
        self._marks = Marks(records)
        self._routing = Routing(table, steps, records)
        self._budgets: Pool[Left] = Pool()
        self._acts: dict[tuple[int, int, State], list[tuple[str, int, int, bool]]] = {}
        self._appended: dict[tuple[int, int], Appended] = {}
        self._steps: dict[tuple[int, int, int], tuple[Step, ...]] = {}
        self._wrong: dict[tuple[int, int, int], str] = {}
        self._drops = reduces.dropped
        self._patient = bool(budget.get("late-success", 0))
        """Whether an attempt may end after the tracker has given it up; without it such an attempt begins no more."""
        self._left: dict[tuple[int, State], State] = {}
        self._spent: dict[tuple[int, str], int] = {}
        empty = self.logs.number(Log(self.tracker.nothing, self._marks.nothing, self._routing.nothing))
        left = self._budgets.number(self.adversary.budget)
        self.start: State = (empty, NOTHING, left, *(host.nothing for host in self.hosts))

    def state_of(self, state: State) -> KeyState:
        """Return the tracker's state."""
        return self.tracker.states[self.logs[state[LOG]].tracker]

    def form(self, state: State) -> State:
        """Return a state with the canonical form of the tracker's state alone, to compare explorations."""
        return (self.tracker.form(self.logs[state[LOG]].tracker),)

    def moves(self, state: State) -> list[Move]:
        """Return every move from this state; those that read best in a timeline come first."""
        log, flight, left = state[:HOSTS]
        hosts = state[HOSTS:]
        found: list[Move] = []
        for place, number in enumerate(hosts):
            if not number:
                continue
            for label, host, publishes, costs, wrong in self._steps_of(log, place, number):
                budget = self.after(left, costs) if costs else left
                if budget != NOTHING:
                    after = (*hosts[:place], host, *hosts[place + 1 :])
                    self.append(found, (log, flight, budget, after), label, publishes, due=not costs, wrong=wrong)
        for fact in self.facts(log):
            self.append(found, (log, flight, left, hosts), fact.label, (fact.record,))
        for label, record, budget, due in self._from_outside(state):
            self.append(found, (log, flight, budget, hosts), label, (record,), due=due)
        if self._later and not self.logs[log].deployed:
            deployed = self.logs.number(self.logs[log]._replace(deployed=1))
            found.append((f"version {self._later} is deployed", (deployed, *state[FLIGHT:]), False, ""))
        if flight != NOTHING:
            label = f"a late {self.records[flight].type} reaches the log"
            self.append(found, (log, NOTHING, left, hosts), label, (flight,))
        else:
            late = self.after(left, "late-timer")
            sent = [fact for fact in self.facts(log) if fact.timer] if late != NOTHING else []
            found += [(f"{each.label}, is on its way", (log, each.record, late, *hosts), False, "") for each in sent]
        return found

    def facts(self, log: int) -> tuple[Fact, ...]:
        """Return the facts that the tracker may publish next."""
        return self.tracker.facts(self.logs[log].tracker, self.logs[log].deployed)

    def append(
        self,
        found: list[Move],
        parts: tuple[int, int, int, State],
        label: str,
        records: tuple[int, ...],
        *,
        due: bool = True,
        wrong: str = "",
    ) -> None:
        """Add the move that appends these records, and the same with a copy of the last one on its way."""
        log, flight, left, hosts = parts
        before = log
        for record in records:
            appended = self._appended.get((log, record)) or self._read(log, record)
            log, wrong = appended.log, wrong or appended.wrong
            for place, job in appended.jobs:
                host = self.hosts[place].delivered(hosts[place], job)
                hosts = (*hosts[:place], host, *hosts[place + 1 :])
        if self._drops:
            hosts = self._settled(log, hosts)
        found.append((label, (log, flight, left, *hosts), due, wrong))
        if not records or flight != NOTHING:
            return
        copied = self.after(left, "duplicate")
        if copied != NOTHING:
            found.append((f"{label}, and once more later", (log, records[-1], copied, *hosts), False, wrong))
        late = self.after(left, "late-timer")
        if late != NOTHING:
            withdrawn = self._withdrawn(before, log, records)
            found += [(label, (log, record, late, *hosts), False, wrong) for record in withdrawn]

    def _settled(self, log: int, hosts: State) -> State:
        """Return the hosts without compensations that the tracker does not await any more."""
        known = self._left.get((log, hosts))
        if known is None:
            event_runs = self.tracker.states[self.logs[log].tracker].runs
            run = event_runs[0] if event_runs else None
            known = tuple(host.settled(number, run) for host, number in zip(self.hosts, hosts, strict=True))
            self._left[log, hosts] = known
        return known

    def _read(self, log: int, record: int) -> Appended:
        """Return the effect of one record: the tracker's state, the marks, the gates, and the jobs of hosts."""
        tracker, marks, gates, orders, deployed = self.logs[log]
        if self.records[record].type in ORDERS:
            orders = self.orders.number((*self.orders[orders], record))
        folded = self.tracker.after(tracker, record, deployed)
        marks = self._marks.after(marks, record)
        routed = self._routing.of(gates, record)
        jobs: list[tuple[int, Job]] = []
        for call in routed.calls:
            mark = self._marks.of(marks, self.records[call.trigger].run)
            job = Job(
                call.undo, call.trigger, call.source, call.inbox_id, not mark.stopped, mark.pause_n, mark.paused,
                call.failed, redriven=call.redriven,
            )  # fmt: skip
            jobs.append((call.host, job))
        after = self.logs.number(Log(folded.state, marks, routed.gates, orders, deployed))
        found = self._appended[log, record] = Appended(after, tuple(jobs), folded.wrong)
        return found

    def _steps_of(self, log: int, place: int, number: int) -> tuple[Step, ...]:
        """Return the moves of one host."""
        key = (log, place, number)
        known = self._steps.get(key)
        if known is None:
            host, active, mark = self.hosts[place], True, NO_MARK
            queue = host.states[number].queue
            if queue:
                event = self.records[queue[0].trigger]
                mark = self._marks.of(self.logs[log].marks, event.run)
                run = self.tracker.run(self.logs[log].tracker, event.run)
                active = run is not None and _awaits(run, queue[0], event, host.step.name)
            known = self._steps[key] = host.moves(number, mark, active=active or self._patient)
        return known

    def _withdrawn(self, before: int, after: int, records: tuple[int, ...]) -> Iterator[int]:
        """Yield the decisions that the end of a run has withdrawn: a tracker may have sent them already."""
        landed = {(self.records[n].id, self.records[n].type) for n in records}
        for run in self.tracker.states[self.logs[before].tracker].runs:
            left = self.tracker.run(self.logs[after].tracker, run.id)
            kept = {(fact.id, fact.type) for fact in left.outbox} if left else set()
            for fact in run.outbox:
                if (fact.id, fact.type) not in kept | landed:
                    yield self.records.number(canonical.fact(fact))

    def _from_outside(self, state: State) -> list[tuple[str, int, int, bool]]:
        dead = tuple(state[HOSTS + n] for n, host in enumerate(self.hosts) if host.states[state[HOSTS + n]].dead)
        key = (state[LOG], state[BUDGET], dead)
        known = self._acts.get(key)
        if known is None:
            left = self._budgets[state[BUDGET]]
            acts = list(self.adversary.acts(self.state_of(state), left))
            for place, host in enumerate(self.hosts):
                for trigger in host.states[state[HOSTS + place]].dead:
                    act = self.adversary.redriven(self.records[trigger], host.step.name, left)
                    acts += [act] if act else []
            known = [(act.label, act.record, self._budgets.number(act.left), act.due) for act in acts]
            self._acts[key] = known
        return known

    def after(self, budget: int, name: str) -> int:
        """Return the budget after one move of this name; NOTHING if none is left."""
        known = self._spent.get((budget, name))
        if known is None:
            left = self.adversary.spent(self._budgets[budget], name)
            known = self._spent[budget, name] = NOTHING if left is None else self._budgets.number(left)
        return known

    def wrong(self, state: State) -> str:
        """Return the promise that this state breaks."""
        log, flight = state[:BUDGET]
        for place, number in enumerate(state[HOSTS : HOSTS + len(self.hosts)]):
            key = (log, place if flight == NOTHING else ~place, number)
            known = self._wrong.get(key)
            if known is None:
                known = self._wrong[key] = self._pair(log, place, number, flying=flight != NOTHING)
            if known:
                return known
        return ""

    def _pair(self, log: int, place: int, number: int, *, flying: bool) -> str:
        """Return the promise that the tracker breaks by itself, or together with one host."""
        host, tracker = self.hosts[place], self.logs[log].tracker
        if self.tracker.wrong[tracker]:
            return self.tracker.wrong[tracker]
        state = host.states[number]
        for run in self.tracker.states[tracker].runs:
            under_way = any(zombie.stubborn for zombie in state.zombies) or state.runs_again
            mine = [] if under_way else [e for e in state.effects if e.key.startswith(f"{run.id}/")]
            wrong = promises.of_effects(run, host.step.name, mine)
            if wrong:
                return wrong
            if not (run.ended or run.paused_ms or flying):
                jobs = {self.records[job.trigger].id for job in state.queue if not job.undo}
                wrong = _forsaken(run, host.step.name, jobs)
                if wrong:
                    return wrong
        return ""

    def ends_of(self, state: State) -> list[str]:
        """Return how the runs end in a state in which nothing more happens, in words."""
        return ends.ends_of(self.table, self.state_of(state).runs)

    def wrong_end(self, state: State) -> str:
        """Return promise 3 if a state in which nothing more happens is no sound end."""
        return next(filter(None, map(promises.of_end, self.state_of(state).runs)), "")


def _awaits(run: Run, job: Job, event: Envelope, step: str) -> bool:
    """Return whether the tracker awaits an answer to this job."""
    if job.undo:
        entry = run.entry(event.entry)
        return entry is not None and entry.state == REQUESTED and entry.round == event.round
    return run.expects(step, event.id) is not None


def _forsaken(run: Run, step: str, jobs: set[str]) -> str:
    """Return promise 3 if the tracker awaits a step that no host has and that nobody will call for again."""
    called = {fact.trigger for fact in run.outbox if fact.type == facts.STEP_RETRY_DUE and fact.step == step}
    parents = {(known.step, known.trigger) for known in run.children}
    for expected in run.expected:
        if (
            expected.step == step
            and (step, expected.trigger) not in parents
            and not (expected.retry_ms or expected.trigger in jobs | called)
        ):
            return f"promise 3: {step} is awaited, and no host has it: only its deadline ends it"
    return ""
