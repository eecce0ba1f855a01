"""The plan of one seed, as data: starts, outside events and faults, each with its moment. Pure.

The same seed, flows and kinds give the same plan on every machine. A part of a plan is a plan: a failing one is shrunk
by leaving actions out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random

import msgspec

from choreo.core.definition import FlowDefinition
from choreo.testing.simulation.kinds import OLD_VERSION, Definitions, older_versions, reactions_of, steps_of

START, OUTSIDE = "start", "outside"
ORDERS_MAX: int = 4
STARTS_MS: int = 30_000
"""Starts come within this time, so that faults meet several runs at once."""
FAULTS_MS: int = 60_000
"""Faults are possible for at least so long."""
_FIRST_MS, _SOON_MS = 10, 120_000
"""Most faults come within two minutes, evenly on a logarithmic scale: so long do the steps of a run take."""
_TURNS_MAX = 200
"""A process dies within so many turns of its own. It has some only while it works: a few hundred for a few runs."""
_WITH_DEATH, _TURNS_SOON = 0.2, 60
"""Of so many faults one comes with the death of a process, which then dies within so many turns."""
_LONG_MS = (1_000, 7_000, 40_000, 180_000)
_AFTER_MS = (0, 3, 10, 30, 100, 1_000, 60_000)
"""Times after a trigger: before the host has it, while it works, when it is over."""
_FAILED_CALLS = (1, 2, 5, 12, 60)
"""Calls of a compensation that fail: some are fewer than its attempts, some more."""


class Action(msgspec.Struct, frozen=True):
    """One thing that is planned to happen."""

    kind: str
    at_ms: int = 0
    """Since the simulation began; of an outside event: since its wait was opened."""
    target: str = ""
    """A role, `service.step`, or business key."""
    flow: str = ""
    n: int = 0
    """Of a handler: its first call. Of a death: the turns until then. Of a start: the older version of the program that
    publishes it, or 0. Else a number that chooses among the records."""
    duration_ms: int = 0
    calls: int = 1
    """How many calls of a handler it meets."""
    undo: bool = False
    """Whether it meets the compensation of the step."""
    after: bool = False
    """Whether it meets a handler after its work; a process on its way to a server or back, instead of at a turn."""
    joins: bool = False
    """Whether another process of the service joins while the handler works."""


class Plan(msgspec.Struct, frozen=True):
    """All actions of one seed."""

    seed: int
    actions: tuple[Action, ...]

    @property
    def last_ms(self) -> int:
        """Return the moment at which the last fault is over."""
        return max([FAULTS_MS, *(a.at_ms + a.duration_ms for a in self.actions if a.kind != OUTSIDE)])

    def only(self, numbers: Sequence[int]) -> Plan:
        """Return the plan with these actions alone."""
        return Plan(self.seed, tuple(self.actions[number] for number in numbers if number < len(self.actions)))


def plan_of(seed: int, definitions: Definitions, roles: Sequence[str], kinds: Sequence[str], index: int) -> Plan:
    """Return the plan of a seed. The `index`-th kind is always among its faults, so that each one's turn comes."""
    return Plan(seed, tuple(_Planner(Random(f"plan of {seed}"), definitions, roles).actions(kinds, index)))  # noqa: S311 - chosen by the seed


class _Planner:
    def __init__(self, chance: Random, definitions: Definitions, roles: Sequence[str]) -> None:
        self._chance = chance
        self._definitions = definitions
        self._roles = roles
        self._steps = steps_of(definitions)
        self._runs: list[tuple[str, str]] = []
        self._may_join = False

    def actions(self, kinds: Sequence[str], index: int) -> Iterator[Action]:
        """Yield starts, then faults, then outside events."""
        chance, self._may_join = self._chance, "rebalance" in kinds
        first = [flow for flow in self._definitions.values() if not set(flow.parents) & set(self._definitions)]
        must = kinds[index % len(kinds)] if kinds else ""
        spread_ms = chance.choice((1, 1_000, STARTS_MS))  # starts of one moment make batches
        for number in range(chance.randint(1, ORDERS_MAX)):
            flow = chance.choice(first)
            self._runs.append((flow.name, f"k-{number + 1}"))
            at_ms = chance.randrange(spread_ms) if number else 0
            version = self._version(flow, must) if OLD_VERSION in kinds else 0
            yield Action(START, at_ms, f"k-{number + 1}", flow.name, version)
        faults: list[str] = []
        if kinds:
            faults = [must, *chance.choices(kinds, k=chance.randint(0, 6))]
            if must not in _OUTSIDE:
                faults += [must] * chance.randint(0, 2)
            yield from (action for action in self._support(must) if action.kind in kinds)
        for kind in faults:
            if kind not in _OUTSIDE and kind != OLD_VERSION:
                fault = self._fault(kind)
                yield fault
                if "kill" in kinds and chance.random() < _WITH_DEATH:
                    yield msgspec.structs.replace(
                        self._fault("kill"), at_ms=fault.at_ms, n=chance.randrange(_TURNS_SOON)
                    )
        for name, key in self._runs:
            yield from self._outside(self._definitions[name], key, [kind for kind in faults if kind in _OUTSIDE])

    def _version(self, flow: FlowDefinition, must: str) -> int:
        """Return an older version under which a run is started; 0: under the present one."""
        older = older_versions(flow)
        is_older = self._chance.random() < (0.7 if must == OLD_VERSION else 0.3)
        return self._chance.choice(older) if older and is_older else 0

    def _support(self, kind: str) -> Iterator[Action]:
        """Yield the faults without which this kind meets nothing: failures for good, after a cancel."""
        chance, calls = self._chance, _FAILED_CALLS[-1]
        if kind not in ("redrive", "compensation-retry"):
            return
        flow, key = chance.choice(self._runs)
        yield Action("cancel", STARTS_MS + chance.randrange(STARTS_MS), key, flow)
        if kind == "redrive":
            reaction = chance.choice(reactions_of(self._definitions))
            yield Action("handler-error", target=reaction, n=1, calls=calls)
        else:
            yield from (
                Action("compensation-error", target=step.name, n=1, undo=True, calls=calls)
                for step in self._steps
                if step.compensation
            )

    def _fault(self, kind: str) -> Action:
        chance = self._chance
        flow, key = chance.choice(self._runs)
        action = Action(kind, self._moment(), flow=flow, n=chance.randrange(1_000))
        return _MAKERS[kind](self, action, key)

    def _moment(self) -> int:
        chance = self._chance
        if chance.random() < 0.1:
            return round(chance.random() * self._longest_ms())
        return round(_FIRST_MS * math.exp(chance.random() * math.log(_SOON_MS / _FIRST_MS)))

    def _longest_ms(self) -> int:
        return max((wait.timeout_ms for flow in self._definitions.values() for wait in flow.waits), default=600_000)

    def _outside(self, flow: FlowDefinition, key: str, kinds: Sequence[str]) -> Iterator[Action]:
        """Yield the outside events of a run: most of them in time."""
        chance = self._chance
        for wait in flow.waits:
            if not wait.answers:
                continue
            answer = chance.choice((wait.until, wait.until, *wait.answers))
            kind = chance.choice(kinds) if kinds else OUTSIDE
            whole_ms = wait.timeout_ms or 3_600_000
            usual_ms = round(chance.random() ** 3 * 0.9 * whole_ms)
            if kind == "outside-early":
                yield Action(kind, chance.randrange(STARTS_MS), f"{key} {answer}", flow.name)
            elif kind == "outside-late":
                late_ms = whole_ms + chance.randrange(-50, 60_000)
                yield Action(OUTSIDE, late_ms, f"{key} {answer} {wait.on} {kind}", flow.name)
            elif kind == "outside-never":
                yield Action(kind, 0, key, flow.name)
            else:
                yield Action(OUTSIDE, usual_ms, f"{key} {answer} {wait.on}", flow.name)

    def on_process(self, action: Action, _: str) -> Action:
        """Meet one process for a while."""
        role = self._chance.choice(self._roles)
        return msgspec.structs.replace(action, target=role, duration_ms=self._chance.choice(_LONG_MS))

    def on_death(self, action: Action, _: str) -> Action:
        """Let one process die after some turns."""
        return msgspec.structs.replace(self._aimed(action), duration_ms=self._chance.choice(_LONG_MS))

    def on_freeze(self, action: Action, _: str) -> Action:
        """Let one process stand still for longer than its session."""
        duration_ms = self._chance.choice((7_000, 9_000, 30_000, 120_000))
        return msgspec.structs.replace(self._aimed(action), duration_ms=duration_ms)

    def _aimed(self, action: Action) -> Action:
        """Return the action at a turn of a process, early enough that it works still."""
        chance = self._chance
        at_ms = chance.choice((0, 0, chance.randrange(STARTS_MS)))
        turns, is_on_way = int(_TURNS_MAX * chance.random()), chance.random() < 0.5
        role = chance.choice(self._roles)
        return msgspec.structs.replace(action, at_ms=at_ms, target=role, n=turns, after=is_on_way)

    def on_servers(self, action: Action, _: str) -> Action:
        """Meet every process, or one."""
        target = self._chance.choice(("", *self._roles))
        return msgspec.structs.replace(action, target=target, duration_ms=self._chance.choice(_LONG_MS))

    def on_leader(self, action: Action, _: str) -> Action:
        """Meet one partition for a while, or from the midst of the longest waits on until they are over."""
        chance, whole_ms = self._chance, self._longest_ms()
        if chance.random() < 0.5:
            return msgspec.structs.replace(action, duration_ms=chance.choice(_LONG_MS))
        return msgspec.structs.replace(action, at_ms=chance.randrange(whole_ms), duration_ms=2 * whole_ms)

    def on_trigger(self, action: Action, key: str) -> Action:
        """Meet a trigger of one run, some time after it."""
        return msgspec.structs.replace(action, at_ms=0, target=key, duration_ms=self._chance.choice(_AFTER_MS))

    def on_batches(self, action: Action, _: str) -> Action:
        """Meet the first batches of every process."""
        return msgspec.structs.replace(action, at_ms=0)

    def on_service(self, action: Action, _: str) -> Action:
        """Meet one service."""
        services = list(dict.fromkeys(step.service for step in self._steps))
        return msgspec.structs.replace(action, target=self._chance.choice(services))

    def on_key(self, action: Action, key: str) -> Action:
        """Meet one run."""
        return msgspec.structs.replace(action, target=key, duration_ms=self._chance.choice((0, *_LONG_MS)))

    def on_dead_letters(self, action: Action, key: str) -> Action:
        """Meet dead letters, once there are some."""
        return msgspec.structs.replace(self.on_key(action, key), at_ms=action.at_ms + self._chance.choice(_LONG_MS))

    def on_handler(self, action: Action, _: str) -> Action:
        """Meet a call of a handler."""
        return self._of_handler(action, may_undo=True)

    def on_step(self, action: Action, _: str) -> Action:
        """Meet a call of a step's own handler."""
        fit = [step for step in self._steps if step.fails]
        return msgspec.structs.replace(
            action, at_ms=0, target=self._chance.choice(fit).name, n=self._chance.randint(1, 3)
        )

    def on_compensation(self, action: Action, _: str) -> Action:
        """Meet several calls of a compensation, and let a step behind it fail, so that there is one."""
        fit = [step for step in self._steps if step.compensation]
        step = self._chance.choice(fit).name
        return msgspec.structs.replace(
            action, at_ms=0, target=step, n=1, undo=True, duration_ms=self._chance.choice(_FAILED_CALLS)
        )

    def _of_handler(self, action: Action, *, may_undo: bool) -> Action:
        chance = self._chance
        hangs = action.kind == "hanging-handler"
        step = chance.choice([step for step in self._steps if step.timeout_ms or not hangs])
        timeout_ms = step.timeout_ms or 10_000
        duration_ms = chance.choice((500, timeout_ms - 10, timeout_ms + 10, 3 * timeout_ms))
        undo = may_undo and step.compensation is not None and chance.random() < 0.2
        return msgspec.structs.replace(
            action,
            at_ms=0,
            target=step.name,
            n=chance.choice((1, 1, 1, 2, 2, 3)),
            duration_ms=duration_ms,
            undo=undo,
            after=chance.random() < 0.5,
            joins=self._may_join and action.kind in _LONG and chance.random() < 0.3,
        )


_LONG = frozenset({"slow-handler", "hanging-handler"})
_OUTSIDE = frozenset({"outside-early", "outside-late", "outside-never"})
_MAKERS: dict[str, Callable[[_Planner, Action, str], Action]] = {
    "kill": _Planner.on_death,
    "zombie": _Planner.on_freeze,
    "rebalance": _Planner.on_process,
    "slow-network": _Planner.on_process,
    "clock-skew": _Planner.on_process,
    "lost-answer": _Planner.on_servers,
    "torn-batch": _Planner.on_batches,
    "broker-skew": _Planner.on_leader,
    "broker-away": _Planner.on_servers,
    "redis-away": _Planner.on_servers,
    "inbox-emptied": _Planner.on_service,
    "read-model-emptied": _Planner.on_key,
    "duplicate": _Planner.on_key,
    "foreign-duplicate": _Planner.on_trigger,
    "foreign-start": _Planner.on_key,
    "poison": _Planner.on_key,
    "handler-error": _Planner.on_handler,
    "late-error": _Planner.on_handler,
    "slow-handler": _Planner.on_handler,
    "hanging-handler": _Planner.on_handler,
    "handler-death": _Planner.on_handler,
    "declared-failure": _Planner.on_step,
    "compensation-error": _Planner.on_compensation,
    "cancel": _Planner.on_key,
    "pause": _Planner.on_key,
    "terminate": _Planner.on_key,
    "compensation-retry": _Planner.on_key,
    "redrive": _Planner.on_dead_letters,
}
