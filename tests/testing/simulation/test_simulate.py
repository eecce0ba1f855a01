"""`choreo simulate`: seeds of the order flow keep the promises, the same everywhere; a broken flow is caught."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from choreo import Flow, RunView, Service, StepContext
from choreo.core.errors import SettingsError
from choreo.settings import load
from choreo.testing import Books, Hooks
from choreo.testing.simulation import kinds
from choreo.testing.simulation.sampling import sampled
from choreo.testing.simulation.simulate import Simulation
from choreo.testing.simulation.world import project_of
from schemas.orders import OrderPlaced
from tests.support.seats import Asked, Freed, Held, Paid, Unpaid

ROOT = Path(__file__).resolve().parents[3]
SEEDS = 124
"""Each kind of fault has its turn four times."""


def simulate(*words: str, hash_seed: str = "0", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Call the command in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "CHOREO_FLOWS": "", "PYTHONPATH": str(ROOT)}
    environment.pop("CHOREO_FLOWS")
    command = [sys.executable, "-m", "choreo", "simulate", *words, "-o", "json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_order_flow_keeps_its_promises_under_every_kind_of_fault() -> None:
    """Each kind fires, and no seed fails; the flow has one version, so none of its runs has an older one."""
    answer = simulate("order", "--seeds", str(SEEDS))
    report = json.loads(answer.stdout)
    assert [failure["replay"] for failure in report["failures"]] == []
    assert report["never_fired"] == []
    assert answer.returncode == 0, answer.stderr
    assert set(report["fired"]) >= set(kinds.KINDS) - {"old-version"}


def test_a_seed_is_the_same_in_another_process() -> None:
    """Under another PYTHONHASHSEED: the log and every note of a fault, byte for byte."""
    first, second = (simulate("order", "--seeds", "6", "--seed", "7", hash_seed=seed) for seed in ("1", "2"))
    digests = [json.loads(answer.stdout)["digest"] for answer in (first, second)]
    assert digests[0] == digests[1] != ""


def seats(*, undoes: bool) -> Flow:
    """Return a flow with a compensation that frees the seat, or forgets to."""
    books = Books("seats")
    theatre = Service("theatre")
    bank = Service("bank")

    @theatre.step(on=Asked, emits=Held)
    async def seat(event: Asked, ctx: StepContext) -> Held:
        books.apply(ctx)
        return Held(order_id=event.order_id)

    @seat.compensate(emits=Freed)
    async def free(seated: Held | None, ctx: StepContext) -> Freed | None:
        found = books.undo(ctx) if undoes else True
        return Freed(order_id=ctx.key) if found else None

    @bank.step(on=Held, emits=Paid, fails=Unpaid, effect=False)
    async def pay(event: Held, ctx: StepContext) -> Paid | Unpaid:
        return Paid(order_id=event.order_id)

    return Flow(
        "seats", key="order_id", starts=Asked, completes=Paid, deadline="1h", linger="2h", services=[theatre, bank]
    )


@pytest.fixture
def no_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the books of this test be audited."""
    monkeypatch.setattr(Books, "opened", ())


def simulation(flow: Flow, *faults: str, hooks: Hooks | None = None) -> Simulation:
    """Return a simulation of one flow."""
    project = project_of({flow.name: flow}, load(time_scale=1, tracebacks=False))
    return Simulation(project, hooks or Hooks(), kinds.chosen(faults, project.definitions))


@pytest.mark.usefixtures("no_books")
def test_a_compensation_that_undoes_nothing_is_caught_and_shrunk() -> None:
    """The books say so; the shortest plan has starts and one failure, and gives the same fault again."""
    simulated = simulation(seats(undoes=False), "declared-failure", "kill", "duplicate")
    failing = next(outcome for seed in range(40) if (outcome := simulated.run(seed, seed)).faults)
    shrunk = simulated.shrunk(failing)
    assert any(re.search(r"seats: the effect of theatre.seat in run .* stands", fault) for fault in shrunk.faults)
    *starts, failure = (action.kind for action in shrunk.plan.actions)
    assert (set(starts), failure) == ({"start"}, "declared-failure")
    assert len(shrunk.plan.actions) < len(failing.plan.actions)
    assert "FAULT bank.pay, call" in shrunk.timeline
    again = simulated.run(shrunk.seed, shrunk.index, shrunk.kept, is_calm=shrunk.is_calm)
    assert (again.faults, again.digest) == (shrunk.faults, shrunk.digest)


@pytest.mark.usefixtures("no_books")
def test_the_same_flow_with_a_sound_compensation_passes() -> None:
    """The same seeds."""
    simulated = simulation(seats(undoes=True), "declared-failure", "kill", "duplicate")
    assert [outcome.faults for seed in range(40) if (outcome := simulated.run(seed, seed)).faults] == []


@pytest.mark.usefixtures("no_books")
def test_an_error_of_a_hook_is_a_fault_of_its_seed() -> None:
    """It names the hook."""
    hooks = Hooks()

    @hooks.after
    def audit(runs: list[object]) -> list[str]:
        raise KeyError(len(runs))

    outcome = simulation(seats(undoes=True), "none", hooks=hooks).run(1, 0)
    assert [fault for fault in outcome.faults if fault.startswith("hook audit raised KeyError")] == outcome.faults


@pytest.mark.usefixtures("no_books")
def test_a_state_that_breaks_an_invariant_of_the_flow_is_caught() -> None:
    """Once a run, with its place in the log."""
    flow = seats(undoes=True)

    @flow.invariant
    def never_seated(run: RunView) -> bool:
        return not run.stands("theatre.seat")

    (fault,) = simulation(flow, "none").run(2, 0, [0]).faults
    assert re.fullmatch(r"invariant never_seated of seats k-\d at \d/1: it is False", fault)


def test_a_kind_that_nobody_knows_is_refused_with_the_nearest_one() -> None:
    """So is one that cannot meet the flow."""
    definitions = {"seats": seats(undoes=True).definition}
    with pytest.raises(SettingsError, match="there is no kind of fault 'kil'"):
        kinds.chosen(["kil"], definitions)
    with pytest.raises(SettingsError, match="outside-late cannot meet these flows"):
        kinds.chosen(["outside-late"], definitions)
    assert kinds.chosen(["none"], definitions) == []
    assert "kill" not in kinds.chosen(["-kill"], definitions)


def test_a_start_is_sampled_by_the_types_of_its_fields() -> None:
    """The same chance gives the same event; its values fit the types of its fields."""
    first, second = (sampled(OrderPlaced, Random(5), {"order_id": "k-1"}) for _ in range(2))
    assert first == second
    assert first.order_id == "k-1"
    assert first.amount > 0
    assert all(item.quantity > 0 for item in first.items)
