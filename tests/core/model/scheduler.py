"""The adversary: lets chance order everything that can happen, then stops the faults and lets all drain."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.definition import FlowDefinition, RetryRule
from choreo.core.events import Envelope
from choreo.core.state import FAILED, Run
from tests.core.model.host import Host
from tests.core.model.tracker import Tracker
from tests.core.model.world import KEY, World
from tests.core.order import DAY_MS, LABEL
from tests.core.plain import CHARGE, CONFIRM_PICKED, HOUR_MS, PICK, RESERVE, flow

STEPS_MAX = 500
"""Moves of the adversary a seed: a run of this flow takes about forty."""
DRAIN_MAX = 3_000

_PATIENT = RetryRule(initial_ms=HOUR_MS // 10, backoff=2, interval_max_ms=HOUR_MS, attempts_max=3)


def order_of(seed: int) -> FlowDefinition:
    """Draw a flow: stock, then payment and a label at once, a wait, a confirmation; some gateways cannot be asked."""
    charge, label = replace(CHARGE, retry=_PATIENT), replace(LABEL, retry=_PATIENT)
    if seed % 7 == 3:
        charge = replace(charge, compensation=replace(CHARGE.compensation, bars=False))
    if seed % 11 == 4:
        label = replace(label, compensation=replace(LABEL.compensation, takes_none=False))
    steps = (replace(RESERVE, retry=_PATIENT), charge, label, CONFIRM_PICKED)
    return flow(*steps, waits=(PICK,), fails="OrderCancelled", deadline_ms=2 * DAY_MS)


class Scheduler:
    """One adversarial history."""

    def __init__(self, seed: int) -> None:
        self.world = World(order_of(seed), seed)
        self.tracker = Tracker(self.world)
        self.hosts = [Host(self.world, step) for step in self.world.table.flow.steps]
        self.drained_from_ms = 0
        self._pauses: dict[str, int] = {}
        self._start("")

    def play(self) -> None:
        """Play the whole history: faults, then none, then all the time that is needed."""
        self.stir(STEPS_MAX)
        for run in self.calm():
            self._pause(run.id, facts.FLOW_RESUMED)
        self.drain()

    def stir(self, moves_max: int) -> None:
        """Let chance make this many moves."""
        moves: list[tuple[Callable[[], object], int]] = [
            (lambda: self.tracker.work(self.world.chance.randint(1, 4)), 25),
            (lambda: self.world.chance.choice(self.hosts).read(), 80),
            (self._attempt, 50),
            (self._late, 3),
            (self._tick, 4),
            (self._operate, 1),
            (self._outside, 3),
            (self._stranger, 1),
            (self._again, 1),
            (self._redrive, 1),
            (self._crash, 1),
        ]
        actions, weights = zip(*moves, strict=True)
        for _ in range(moves_max):
            self.world.chance.choices(actions, weights)[0]()

    def calm(self) -> list[Run]:
        """End the faults; return the runs."""
        self.world.faults = False
        return self.tracker.state.runs

    # The moves of the adversary.

    def _start(self, idempotency_key: str) -> None:
        start = ids.start("order", KEY, idempotency_key)
        self.world.publish([Envelope(id=start, type="OrderPlaced", key=KEY, flow="order")])

    def _attempt(self) -> None:
        busy = [(host, attempt) for host in self.hosts for attempt in host.running]
        if busy:
            host, attempt = self.world.chance.choice(busy)
            host.go_on(attempt)

    def _late(self) -> None:
        late = self.world.late
        if late:
            late.pop(self.world.chance.randrange(len(late)))()

    def _tick(self) -> None:
        due_ms = self.tracker.next_due_ms()
        if due_ms > self.world.now_ms and self.world.likely(0.2):
            ahead_ms = 2_000 if self.world.likely(0.3, "a clock ahead of the log's") else 0
            self.world.now_ms = max(self.world.now_ms, due_ms - ahead_ms)
            self.tracker.emit_due(ahead_ms)
        else:
            self.world.now_ms += self.world.chance.choice([1_000, 60_000, 60_000, HOUR_MS // 3])
            self.tracker.emit_due()

    def _outside(self) -> None:
        chance = self.world.chance
        if self.world.likely(0.04, "a second start"):
            self._start(str(chance.randrange(2)))
        elif self.world.likely(0.6):
            picked = Envelope(id=chance.choice(["", "picked-1"]), type="Picked", key=KEY, flow="order")
            if any(record.event.type == "PaymentCharged" for record in self.world.log) or self.world.likely(0.3):
                self.world.publish([picked])

    def _stranger(self) -> None:
        """Write an event that a step has made already, as a foreign program: under another id and without a run."""
        made = [record.event for record in self.world.log if record.event.type in ("StockReserved", "PaymentCharged")]
        if made and self.world.likely(0.3, "a foreign duplicate under another id"):
            event = self.world.chance.choice(made)
            number = self.world.chance.randrange(3)
            self.world.publish([Envelope(id=f"stranger-{number}", type=event.type, key=KEY, flow="order")])

    def _again(self) -> None:
        """Write any record once more, however late: a pause after its resume, a failure after the end."""
        if self.world.likely(0.5, "a late duplicate of any record"):
            record = self.world.chance.choice(self.world.log)
            if record.event.id:
                self.world.append(record.event)

    def _redrive(self) -> None:
        """Redrive a failed step as an operator, before or after compensation starts, or twice."""
        failed = [r.event for r in self.world.log if r.event.type == facts.STEP_FAILED and not r.event.entry]
        failed = [event for event in failed if not event.trigger]
        if not failed or not self.world.likely(0.5, "a redrive"):
            return
        event = self.world.chance.choice(failed)
        known = {(r.event.id or ids.foreign("order", 0, r.offset)): r.offset for r in reversed(self.world.log)}
        id_ = ids.of_run("redriven", event.causation, self.world.chance.randrange(2))
        about = {"step": event.step, "causation": event.causation, "trigger": event.causation}
        self._emit(event.run, facts.REDRIVEN, id_, outcome=known[event.causation], **about)

    def _crash(self) -> None:
        host = self.world.chance.choice(self.hosts)
        if self.world.likely(0.15, "an inbox is lost"):
            host.forget()
        elif self.world.likely(0.6, "a host is killed"):
            host.die()

    def _operate(self) -> None:
        runs = [run for run in self.tracker.state.runs if not run.ended]
        if not runs:
            return
        run = self.world.chance.choice(runs)
        wish = self.world.chance.choices(["cancel", "pause", "resume", "terminate", "undo"], [4, 6, 9, 1, 8])[0]
        if wish == "cancel":
            self._emit(run.id, facts.CANCEL_REQUESTED, ids.of_run("cancel", run.id))
        elif wish == "terminate":
            self._emit(run.id, facts.FLOW_TERMINATED, ids.of_run("terminated", run.id), reason="by hand")
        elif wish == "undo":
            self._retry(run.id)
        else:
            self._pause(run.id, facts.FLOW_PAUSED if wish == "pause" else facts.FLOW_RESUMED)

    def _pause(self, run_id: str, type_: str) -> None:
        n = self._pauses[run_id] = self._pauses.get(run_id, 0) + 1
        self._emit(run_id, type_, ids.of_run("pause", run_id, n), n=n)

    def _retry(self, run_id: str) -> None:
        run = self.tracker.state.run(run_id)
        for entry in run.ledger if run else []:
            if entry.state == FAILED:
                id_ = ids.of_round("undo-retry", entry.id, entry.round)
                self._emit(
                    run_id, facts.COMPENSATION_RETRY_REQUESTED, id_, entry=entry.id, step=entry.step, round=entry.round
                )

    def _emit(self, run_id: str, type_: str, id_: str, **fields: object) -> None:
        self.world.publish([Envelope(id=id_, type=type_, key=KEY, flow="order", run=run_id, **fields)])  # type: ignore[arg-type]

    # After the faults.

    def drain(self) -> None:
        """Let all the time pass that is needed."""
        self.settle()
        self.drained_from_ms = self.world.now_ms
        for _ in range(DRAIN_MAX):
            due_ms = self.tracker.next_due_ms()
            if not due_ms:
                return
            self.world.now_ms = max(self.world.now_ms, due_ms)
            self.tracker.emit_due()
            self.settle()
        raise AssertionError("it never ends")

    def settle(self) -> None:
        """Let all parts read and work until nothing more follows."""
        for _ in range(DRAIN_MAX):
            while self.world.late:
                self._late()
            for host in self.hosts:
                for attempt in list(host.running):
                    host.go_on(attempt)
                host.read()
            self.tracker.work(10)
            if self.tracker.idle and all(host.idle for host in self.hosts) and not self.world.late:
                return
        raise AssertionError("it never settles")
