"""Chaos on a real broker: everybody is killed, servers go away, records come twice; then an independent audit.

The processes, the broker and Redis are real. CHOREO_CHAOS_SEED chooses the faults and their times (it is printed); a
plan of which a fault hit nothing proves nothing and fails. CHOREO_CHAOS_PAGE names a file for the run's log.
"""

from __future__ import annotations

import ast
import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from redis import Redis

from services.demo import Demo
from services.order_flow import order
from tests.audit import from_kafka
from tests.audit.auditor import Report, judge
from tests.audit.order import FAILURES
from tests.audit.reading import Evidence
from tests.audit.shape import GENERAL_FAILURES, Told
from tests.chaos import fold
from tests.chaos.environment import Environment
from tests.chaos.fault_runner import FaultRunner
from tests.chaos.foreign import Foreign
from tests.chaos.observer import Observer
from tests.chaos.plan import TRIPS, Plan, drawn, forgetful
from tests.chaos.run_log import RunLog
from tests.chaos.trips import Trips
from tests.chaos.world import LETTERS, PARTITIONS, PREFIX, TIME_SCALE, TOPIC, World, opened
from tests.support.durations import durations_of
from tests.support.fleet import ROOT

LAG_BOUND_S = 60.0
"""Promise 9: within that of the last fault all that stood in the log is worked. A dead member's partitions are
another's after 10 s of silence and 5 s of sharing anew; a server's return takes as long; the rest is the backlog."""
LINGER_MS = order.definition.scaled(TIME_SCALE).linger_ms
"""For so long after a loss an inbox knows that there may be more than it remembers."""
REBALANCES_MIN = 3
KILLS_MANY = 32
"""About a fifth of the kills interrupts an attempt: of so many that none does has a chance of one in a thousand."""
ORDERS_TOLD = 3
"""Number of orders of which a failure prints all records."""
IGNORED = "choreo.TriggerIgnored"
"""A service's answer to a trigger that comes again under another id."""


@pytest.mark.timeout(2_400)  # 5 minutes on two cores; 13 where ten others want them too
async def test_no_fault_breaks_a_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 1 to 9 hold on Kafka although everybody and everything goes away while orders run."""
    with _harness(tmp_path, monkeypatch, drawn(_seed())) as run:
        report = await run.play()
        run.make_sure_that_all_hit()
        run.check_folds()
        run.write_page(report)


@pytest.mark.timeout(1_200)  # 90 s on a quiet machine of two cores
async def test_a_redis_that_forgot_all_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways know the keys that are used again; and where memory was lost nothing is called certain any more."""
    with _harness(tmp_path, monkeypatch, forgetful(_seed())) as run:
        await run.play()
        assert run.faults.hits["losses of all that Redis knew"] == 1
        assert run.faults.hits["kills that hit work in flight"] >= run.plan.kills
        forgot_ms = run.faults.forgot_ms
        later = [fact for fact in run.log if forgot_ms < fact.stamp_ms < forgot_ms + LINGER_MS]
        known = {(fact.id, fact.type) for fact in run.log if fact.stamp_ms <= forgot_ms}
        failures = [fact for fact in later if fact.type in (*FAILURES, *GENERAL_FAILURES)]
        failures = [fact for fact in failures if (fact.id, fact.type) not in known]  # a duplicate repeats its flag
        assert failures, "nothing failed after the loss: that proves nothing"
        assert not [fact.where for fact in failures if fact.certain]
        run.check_folds()


def _seed() -> int:
    return int(os.environ.get("CHOREO_CHAOS_SEED", "1"))


@contextmanager
def _harness(folder: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> Iterator[_Run]:
    """Yield servers and settings for one plan; print the run's log in any case."""
    monkeypatch.chdir(ROOT)
    run_log = RunLog(folder / "run_log.txt")
    run_log.note(f"seed {plan.seed}")
    with opened(folder) as world:
        for name, value in world.settings.items():
            monkeypatch.setenv(name, value)
        try:
            yield _Run(world, plan, run_log)
        finally:
            print("\n".join(run_log.lines))  # noqa: T201 - a failed run is repeated by its seed


class _Run:
    """The inputs of one run, and its results."""

    def __init__(self, world: World, plan: Plan, run_log: RunLog) -> None:
        self.world = world
        self.plan = plan
        self.run_log = run_log
        self.demo = Demo()
        self.inboxes = world.inboxes()
        bootstrap = world.broker.bootstrap
        self.observer = Observer(bootstrap, TOPIC, world.groups, self.inboxes)
        self.foreign = Foreign(bootstrap, TOPIC, PARTITIONS, random.Random(plan.seed))
        self.trips = Trips(world) if any(fault.kind == TRIPS for fault in plan.faults) else None
        self.environment = Environment(world.door, self.demo, self.foreign)
        self.observer.listeners.append(self.environment.hear)
        self.faults = FaultRunner(world, plan, self.observer, self.environment, self.foreign, run_log, self.trips)

    async def play(self) -> Report:
        """Let every fault of the plan hit, then let everything end; and have it audited."""
        faults, trips, stop = self.faults, self.trips, asyncio.Event()
        try:
            people = [self.environment.answer(), self.environment.operate()]
            people += [trips.live(), trips.operate()] if trips else []
            await faults.begin(self.observer.follow(stop), *people)
            for number, fault in enumerate(self.plan.faults):
                await faults.compare(number, fault)
            self.settled_s = await faults.settle(LAG_BOUND_S)
            self.rested_s = await faults.finish(LAG_BOUND_S)
            report = await asyncio.to_thread(self._audit)
            self.run_log.note(f"the auditor found {len(report.violations)} broken promises in {report.counts}")
            assert not report.violations, "\n".join([*report.violations[:50], *self._said_of(report.violations)])
            return report
        finally:
            await faults.end()
            await self.environment.close()
            if trips:
                await trips.close()

    def _said_of(self, violations: Sequence[str]) -> Iterator[str]:
        """Yield the log records of the first orders concerned: a plan can be played again, but not the hour."""
        keys = [found[1] for sentence in violations if (found := re.search(r"order (o-\d+)", sentence))]
        for key in list(dict.fromkeys(keys))[:ORDERS_TOLD]:
            for fact in self.log:
                if fact.key == key:
                    told = asdict(replace(fact, data=b""))
                    yield f"{fact.where}: " + ", ".join(f"{name}={value}" for name, value in told.items() if value)

    def check_folds(self) -> None:
        """Check promise 6: read model and states equal a fold of the log."""
        _check_rebuild(self.world)
        self.run_log.note("promise 6: the read model rebuilt from the log has the same bytes")
        bootstrap = self.world.broker.bootstrap
        states, kept = fold.folded(bootstrap), fold.kept(bootstrap)
        assert len(states) == self.faults.placed
        wrong = [key for key in states if states[key] != kept.get(key)]
        assert not wrong, f"promise 6: {len(wrong)} states are not the fold of the log, such as that of {wrong[0]}"
        self.run_log.note(f"promise 6: the {len(states)} states of the tracker are the fold of the log, byte for byte")

    def make_sure_that_all_hit(self) -> None:
        """Fail the test where a planned fault did not hit."""
        hits, foreign = self.faults.hits, self.foreign.done
        self.rebalances = self.world.groups.generations()
        assert hits["kills that hit work in flight"] >= self.plan.kills
        # A few kills may all find records that wait, and nobody at work on one.
        assert hits["attempts interrupted"] > 0 or self.plan.kills < KILLS_MANY
        assert hits["stops of the broker"] == hits["stops of Redis"] == 1
        assert hits["killed the travel flow"] == 2
        assert hits["members joined"] == hits["members left in order"] == hits["trackers that lost their folder"] == 1
        assert all(number >= REBALANCES_MIN for number in self.rebalances.values()), self.rebalances
        for what in (
            "said again, byte for byte",
            "outcomes said again as key, type and JSON",
            "picks said again as key, type and JSON",
            "picked by key, type and JSON",
            "picked in a wrong partition",
            "garbage",
            "picks that cannot be read",
        ):
            assert foreign[what] > 0, what
        assert any(fact.type == IGNORED for fact in self.log), "no bare twin of an outcome met a run that goes on"

    def write_page(self, report: Report) -> None:
        """Write the log of the run, where it is wanted."""
        if os.environ.get("CHOREO_CHAOS_PAGE"):
            Path(os.environ["CHOREO_CHAOS_PAGE"]).write_text(self._page(report), encoding="utf-8")

    def _audit(self) -> Report:
        bootstrap = self.world.broker.bootstrap
        self.log = from_kafka.facts(bootstrap, TOPIC)
        evidence = Evidence(
            self.log,
            from_kafka.dead_letters(bootstrap, LETTERS),
            from_kafka.shown(self.world.door),
            self.inboxes.attempts(self.observer.runs),
        )
        everybody = self.demo.orders(self.faults.placed)
        plain = {placed.event.order_id for placed in everybody if placed.kind.name == "all well"}
        # Entries that Redis has lost cannot be counted.
        plain = set() if self.faults.forgot_ms else plain
        told = Told(
            acknowledged=self.environment.acknowledged,
            poisoned=self.foreign.poisoned,
            durations=durations_of(order.definition.scaled(TIME_SCALE)),
            plain=frozenset(plain),
            interrupted=frozenset(self.observer.interrupted),
        )
        report = judge(evidence, self.world.books, told)
        if self.trips:
            report.violations += self.trips.findings()
            report.counts["runs of trips"] = len(self.trips.acknowledged)
            report.counts["travel processes that could not write a state"] = self.trips.restarted
        report.counts["undos an operator retried"] = len(self.environment.retried)
        return report

    def _page(self, report: Report) -> str:
        run_log, faults = self.run_log, self.faults
        run_log.counted("Faults that hit", "fault", faults.hits)
        run_log.counted("Records of a foreign producer", "what", self.foreign.done)
        run_log.counted("Rebalances, as the broker wrote them down", "group", self.rebalances)
        run_log.counted("Answers to callers before their acknowledgement", "answer", self.environment.refused)
        run_log.table("How the orders ended", ("kind", "completed", "compensated"), self._endings(report))
        run_log.counted("Counts of the auditor", "what", report.counts)
        found = "\n".join(report.violations) or "No promise was broken: 0 orders lost, 0 effects doubled."
        run_log.say("Findings of the auditor", found)
        return run_log.page("One run of the chaos test", self._introduction())

    def _introduction(self) -> str:
        return (
            f"Seed {self.plan.seed}: {self.faults.placed} orders, two processes of each service, two of the "
            f"tracker, a projector and a REST view, on a real broker and a real Redis. Took {self.run_log.seconds:.0f} "
            f"s. The lag that stood after the last fault was gone in {self.settled_s:.1f} s (bound {LAG_BOUND_S:.0f}). "
            "Written by `make chaos`; how it works stands in tests/chaos."
        )

    def _endings(self, report: Report) -> list[tuple[str, int, int]]:
        ended: Counter[tuple[str, str]] = Counter()
        for run, outcome in report.outcomes.items():
            number = int(self.environment.acknowledged[run].removeprefix("o-"))
            ended[self.demo.kind_of(number).name, outcome] += 1
        names = sorted({name for name, _ in ended})
        return [(name, ended[name, "completed"], ended[name, "compensated"]) for name in names]


def _check_rebuild(world: World) -> None:
    """Check promise 6: the read model, dropped and folded again by the user's command, has the same bytes."""
    redis = Redis.from_url(world.redis.url)
    before = _views(redis)
    world.run("projections", "rebuild", "order")
    after = _views(redis)
    assert before["rows"], "the read model was empty"
    assert before == after, "promise 6: the read model rebuilt from the log is other than before"


def _views(redis: Redis) -> dict[str, dict[bytes, bytes]]:
    """Return the rows, states and positions of the generation that counts."""
    name = f"choreo:{PREFIX}:views:order"
    root = f"{name}:{int(redis.get(name) or 0)}"
    return {part: redis.hgetall(f"{root}:{part}") for part in ("rows", "states", "positions")}


def test_the_auditor_shares_no_code_with_choreo() -> None:
    """The auditor and the observer import nothing of the code that they check."""
    names = [*(ROOT / "tests" / "audit").glob("[!t]*.py"), ROOT / "tests" / "chaos" / "observer.py"]
    names += [ROOT / "tests" / "chaos" / "groups.py", ROOT / "tests" / "chaos" / "foreign.py"]
    for path in names:
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            imported = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {module or ""}
            assert not {name for name in imported if name.partition(".")[0] in ("choreo", "services", "schemas")}, path
