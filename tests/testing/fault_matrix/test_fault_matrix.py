"""`choreo faultmatrix`: the order flow is green in every cell; broken services fail in the right cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.core.errors import SettingsError
from choreo.settings import load
from choreo.testing import Books, EndedRun, Hooks
from choreo.testing.fault_matrix.matrix import CellResult, Matrix, Verdict
from choreo.testing.fault_matrix.table import FAULTS, POINTS
from choreo.testing.simulation.world import project_of
from tests.support.seats import Freed, Held, Paid, Unpaid

ROOT = Path(__file__).resolve().parents[3]


def choreo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    environment.pop("CHOREO_FLOWS", None)
    command = [sys.executable, "-m", "choreo", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_cell_of_the_order_flow_is_hit_and_passes(tmp_path: Path) -> None:
    """No promise is broken, every possible cell is hit, and the page says the same."""
    page = tmp_path / "matrix.html"
    answer = choreo(ROOT, "faultmatrix", "order", "-o", "json", "--html", str(page))
    report = json.loads(answer.stdout)
    assert [each for each in report["results"] if each["verdict"] in ("failed", "not hit")] == []
    assert (report["verdict"], report["coverage"], answer.returncode) == ("holds", 1.0, 0), answer.stderr
    assert report["cells"] == 5 * len(FAULTS) * len(POINTS)
    impossible = {each["reason"] for each in report["results"] if each["verdict"] == "not possible"}
    assert "notification.confirm has no compensation" in impossible
    text = page.read_text(encoding="utf-8")
    assert "150 of 150 cells hit (100%)" in text
    assert "<script" not in text
    assert "http" not in text.lower()


class Ordered(Event):
    """Somebody orders a lamp."""

    order_id: str
    lamps: int


Undo = Callable[[Held | None, StepContext, Books], Freed | None]


def undone(_: Held | None, ctx: StepContext, shelf: Books) -> Freed | None:
    """Undo as it should be."""
    return Freed(order_id=ctx.key) if shelf.undo(ctx) else None


def shop(undo: Undo = undone, effect: Callable[[StepContext, Books], Any] | None = None) -> Flow:
    """Return a shop with this compensation; `effect` makes the effect of its first step."""
    shelf = Books("shelf")
    store, till = Service("store"), Service("till")

    @store.step(on=Ordered, emits=Held, timeout="10s")
    async def keep(event: Ordered, ctx: StepContext) -> Held:
        (effect or (lambda ctx, shelf: shelf.apply(ctx)))(ctx, shelf)
        return Held(order_id=event.order_id)

    @keep.compensate(emits=Freed)
    async def free(kept: Held | None, ctx: StepContext) -> Freed | None:
        return undo(kept, ctx, shelf)

    @till.step(on=Held, emits=Paid, fails=Unpaid, effect=False, timeout="10s")
    async def pay(event: Held, ctx: StepContext) -> Paid | Unpaid:
        return Paid(order_id=event.order_id)

    return Flow("shop", key="order_id", starts=Ordered, completes=Paid, deadline="1d", services=[store, till])


def played(flow: Flow, *cells: str, hooks: Hooks | None = None) -> dict[str, CellResult]:
    """Return the results of these cells by name."""
    Books.opened = Books.opened[-1:]
    matrix = Matrix(project_of({"shop": flow}, load(time_scale=1, tracebacks=False)), hooks or Hooks())
    return {result.name: result for result in matrix.results(cells, show=lambda _: None)}


def failing(results: dict[str, CellResult]) -> set[str]:
    """Return the names of the failing cells."""
    return {name for name, result in results.items() if result.verdict is Verdict.FAILED}


def test_a_compensation_that_raises_fails_where_the_run_is_compensated() -> None:
    """The sentence has the error and the function; cells whose run completes are green."""

    def broken(_: Held | None, __: StepContext, ___: Books) -> Freed | None:
        raise RuntimeError("the shelf is locked")

    results = played(shop(broken), "till.pay:error", "till.pay:kill", "till.pay:duplicate")
    assert failing(results) == {"till.pay:error:before-handler", "till.pay:error:after-effect"}
    sentence = results["till.pay:error:before-handler"].broken[0]
    assert "the run ends stuck, because the compensation of store.keep failed" in sentence
    assert "RuntimeError: the shelf is locked" in sentence
    assert "free (test_fault_matrix.py:" in sentence
    assert "return Freed" in sentence


def test_a_compensation_that_forgets_doubt_fails_in_the_cells_that_leave_one() -> None:
    """The mistake of the documentation's page: an effect in doubt is never undone."""

    def forgetful(kept: Held | None, ctx: StepContext, shelf: Books) -> Freed | None:
        if kept is None:
            return None
        shelf.undo(ctx)
        return Freed(order_id=ctx.key)

    found = failing(played(shop(forgetful), "store.keep:error", "store.keep:timeout", "store.keep:late-gateway"))
    assert found == {
        "store.keep:error:after-effect",
        "store.keep:timeout:after-effect",
        "store.keep:late-gateway:before-handler",
    }


def test_a_gateway_that_does_not_bar_a_key_fails_when_a_call_lands_late() -> None:
    """The call comes after the step was undone, and its effect stands."""
    made: list[str] = []

    def unbarred(ctx: StepContext, _: Books) -> None:
        if ctx.idempotency_key not in made:
            made.append(ctx.idempotency_key)

    def undo(_: Held | None, ctx: StepContext, __: Books) -> Freed | None:
        if ctx.undoes in made:
            made.remove(ctx.undoes)
            return Freed(order_id=ctx.key)
        return None

    hooks = Hooks()
    hooks.before(lambda _: made.clear())

    @hooks.after
    def audit(runs: list[EndedRun]) -> list[str]:
        return ["a lamp is kept for nobody"] if made and all(run.status == "compensated" for run in runs) else []

    found = played(shop(undo, unbarred), "store.keep:late-gateway", "store.keep:timeout", hooks=hooks)
    assert failing(found) == {"store.keep:late-gateway:before-handler"}
    assert "hook audit: a lamp is kept for nobody" in found["store.keep:late-gateway:before-handler"].broken


def test_a_gateway_that_counts_a_call_twice_fails_where_it_gets_two() -> None:
    """A crash after the effect repeats the call under the same key."""
    lamps: list[str] = []
    hooks = Hooks()
    hooks.before(lambda _: lamps.clear())

    @hooks.after
    def audit(_: list[EndedRun]) -> list[str]:
        return ["a lamp was taken twice"] if len(lamps) > 1 else []

    def greedy(ctx: StepContext, _: Books) -> None:
        lamps.append(ctx.idempotency_key)

    def undo(_: Held | None, ctx: StepContext, __: Books) -> Freed | None:
        return Freed(order_id=ctx.key)

    found = failing(played(shop(undo, greedy), "store.keep:double-gateway", "store.keep:kill", hooks=hooks))
    assert found >= {f"store.keep:double-gateway:{point}" for point in POINTS}
    assert "store.keep:kill:after-effect" in found
    assert "store.keep:kill:after-commit" not in found


def test_a_correct_shop_is_green() -> None:
    """Nothing fails, and every possible cell is hit."""
    results = played(shop())
    assert {result.verdict for result in results.values()} == {Verdict.PASSED, Verdict.IMPOSSIBLE}


def test_a_step_that_no_start_event_leads_to_is_not_hit() -> None:
    """The cell is no pass: it says so, and names the hook."""
    hooks = Hooks()
    store, rare = Service("store"), Service("rare")

    @store.step(on=Ordered, emits=(Held, Paid), effect=False, timeout="10s")
    async def keep(event: Ordered, ctx: StepContext) -> Held | Paid:
        return Held(order_id=event.order_id) if event.lamps == 123_456 else Paid(order_id=event.order_id)

    @rare.step(on=Held, emits=Freed, effect=False, timeout="10s")
    async def look(event: Held, ctx: StepContext) -> Freed:
        return Freed(order_id=event.order_id)

    completes = {Paid: "paid", Freed: "looked at"}
    flow = Flow("shop", key="order_id", starts=Ordered, completes=completes, deadline="1d", services=[store, rare])
    result = played(flow, "rare.look:kill:after-effect", hooks=hooks)["rare.look:kill:after-effect"]
    assert (result.verdict, result.played) == (Verdict.NOT_HIT, ())
    assert "called rare.look" in result.reason
    assert "@hooks.makes" in result.reason

    @hooks.makes(Ordered)
    def ordered(chance: Random, key: str) -> Ordered:
        return Ordered(order_id=key, lamps=chance.choice((1, 123_456)))

    result = played(flow, "rare.look:kill:after-effect", hooks=hooks)["rare.look:kill:after-effect"]
    assert result.verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("store.kep:kill", "Did you mean store.keep?"),
        ("store.keep:kil", "Did you mean kill?"),
        ("store.keep:kill:after-efect", "Did you mean after-effect?"),
        ("a:b:c:d", "Write step:fault:point"),
    ],
)
def test_a_cell_that_is_not_there_is_refused(name: str, remedy: str) -> None:
    """The error names the part, and the one that was probably meant."""
    with pytest.raises(SettingsError) as refused:
        played(shop(), name)
    assert remedy in str(refused.value.remedy)


def test_a_cell_is_the_same_when_it_is_played_again() -> None:
    """The command below a failure plays exactly that cell: the same runs with the same ends."""
    first, second = (played(shop(), "store.keep:timeout:after-publish") for _ in range(2))
    assert first == second
    assert [each.ends for each in first["store.keep:timeout:after-publish"].played] == ["completed", "completed"]


TOO_MANY = """
from choreo.testing import Hooks
from schemas.orders import OrderPlaced

hooks = Hooks()


@hooks.makes(OrderPlaced)
def placed(chance, key):
    return OrderPlaced(order_id=key, article="lamp", quantity=500, amount=1)
"""
"""Hooks of the scaffold: there are never so many lamps."""


def test_a_failing_cell_ends_the_command_with_1_and_one_that_is_not_hit_with_6(tmp_path: Path) -> None:
    """On the scaffold of `choreo new`: a broken compensation; then a start event that never reaches the payment."""
    assert choreo(tmp_path, "new", "shop").returncode == 0
    folder = tmp_path / "shop"
    broken = (folder / "services" / "stock.py").read_text(encoding="utf-8")
    fine = "return StockReleased(order_id=ctx.key, reservation_id=reserved.reservation_id)"
    assert fine in broken
    (folder / "services" / "stock.py").write_text(broken.replace(fine, "return None"), encoding="utf-8")
    answer = choreo(folder, "faultmatrix", "--cell", "payment.charge:error")
    assert answer.returncode == 1, answer.stderr
    assert "the compensation of stock.reserve failed" in answer.stdout
    assert "Correct release (stock.py:" in answer.stdout
    assert "play it again with: choreo faultmatrix order --cell payment.charge:error:" in answer.stdout
    (folder / "services" / "stock.py").write_text(broken, encoding="utf-8")
    (folder / "simulation.py").write_text(TOO_MANY, encoding="utf-8")
    answer = choreo(folder, "faultmatrix", "--cell", "payment.charge:kill")
    assert answer.returncode == 6, answer.stdout
    assert "not hit: payment.charge:kill:before-handler and 3 more: none of" in answer.stdout
    assert "unknown, a cell was not hit; 0 of 4 cells hit (0%)" in answer.stdout
