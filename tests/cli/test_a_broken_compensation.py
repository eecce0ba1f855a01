"""A new user breaks a compensation of the scaffold: each tool gives the mistake, and the way to correct it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FINE = "return StockReleased(order_id=ctx.key, reservation_id=reserved.reservation_id)"
TAKES_NO_DOUBT = "reserved: StockReserved, ctx: StepContext) -> StockReleased"
USERS_TEST = """
from decimal import Decimal

from choreo.testing import FlowTest
from schemas.orders import OrderPlaced
from services.order_flow import order


def test_a_declined_payment_gives_the_articles_back():
    with FlowTest(order) as env:
        env.publish(OrderPlaced(order_id="o-1", article="lamp", quantity=1, amount=Decimal(4_990)))
        env.skip("1h")
        env.assert_status("o-1", "compensated")


def test_a_reservation_in_doubt_is_undone():
    with FlowTest(order) as env:
        env.fail("stock.reserve", after=True, times=None)
        env.publish(OrderPlaced(order_id="o-2", article="lamp", quantity=1, amount=Decimal(49)))
        env.skip("1h")
        env.assert_status("o-2", "compensated")
"""


class Shop:
    """The scaffold of a new user."""

    def __init__(self, folder: Path) -> None:
        """Make it with `choreo new`."""
        self._folder = folder
        self.calls("choreo", "new", "shop")
        self._folder = folder / "shop"
        (self._folder / "tests" / "test_undo.py").write_text(USERS_TEST, encoding="utf-8")

    def change(self, before: str, after: str) -> None:
        """Replace a part of the stock service."""
        path = self._folder / "services" / "stock.py"
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    def calls(self, *command: str) -> tuple[int, str]:
        """Call a module in the project; return its exit code and output, each space single."""
        paths = os.pathsep.join((str(self._folder), str(ROOT)))
        environment = {**os.environ, "PYTHONPATH": paths}
        environment.pop("CHOREO_FLOWS", None)
        answer = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self._folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return answer.returncode, " ".join((answer.stdout + answer.stderr).split())

    def tests(self) -> tuple[int, str]:
        """Run the user's own tests of the compensation."""
        return self.calls("pytest", "-q", "-p", "no:cacheprovider", "tests/test_undo.py")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Return a new scaffold."""
    return Shop(tmp_path)


def test_a_compensation_that_takes_no_doubt_is_named_by_each_tool(shop: Shop) -> None:
    """The run ends stuck by declaration: `check` has the remedy, the others the end, its reason and the function."""
    shop.change("reserved: StockReserved | None, ctx: StepContext) -> StockReleased | None", TAKES_NO_DOUBT)
    shop.change("    if reserved is None:\n        return None\n", "")
    _, found = shop.calls("choreo", "check")
    assert "C305" in found
    assert "Hint it as StockReserved | None and bar ctx.undoes at the gateway." in found
    code, found = shop.calls("choreo", "verify")
    assert code == 0
    assert (
        "may end stuck, because the effect of stock.reserve stays in doubt: its compensation cannot take None" in found
    )
    _, found = shop.calls("choreo", "simulate", "--seeds", "10", "--faults", "late-error,hanging-handler")
    assert "ended stuck: the effect of stock.reserve is in doubt, and its compensation cannot take None" in found
    _, found = shop.calls("choreo", "faultmatrix", "--cell", "stock.reserve:error")
    assert "by declaration, in 2 cells such as stock.reserve:error:before-handler: the effect of stock.reserve" in found
    code, found = shop.tests()
    assert code == 1
    assert "1 failed, 1 passed" in found
    assert "the effect of stock.reserve is in doubt, and its compensation cannot take None" in found
    assert "See release (stock.py:" in found


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ('raise RuntimeError("no such call")', "RuntimeError: no such call"),
        ("return None", "was given the outcome and answered nothing. Return StockReleased"),
    ],
)
def test_a_compensation_that_fails_is_named_by_each_tool_that_runs_it(shop: Shop, mistake: str, reason: str) -> None:
    """`verify` runs no handler: it names the end. The others have the reason, the function and its answer."""
    shop.change(FINE, mistake)
    assert shop.calls("choreo", "check")[0] == 0
    _, found = shop.calls("choreo", "verify")
    assert "may end stuck, because the compensation of stock.reserve fails" in found
    fix = "the compensation of stock.reserve failed: "
    for code, found in (
        shop.calls("choreo", "simulate", "--seeds", "10", "--faults", "declared-failure"),
        shop.calls("choreo", "faultmatrix", "--cell", "payment.charge:error:before-handler"),
        shop.tests(),
    ):
        assert code == 1
        assert fix in found
        assert reason in found
        assert "Correct release (stock.py:" in found
        assert "it must undo the effect and return StockReleased." in found


def test_a_compensation_that_is_missing_is_refused_by_each_tool(shop: Shop) -> None:
    """The remedy is the same everywhere: nothing runs that cannot be undone."""
    shop.change("@reserve.compensate", "def unused(*_, **__): return lambda _: None\n\n\n@unused")
    for command in (("check",), ("verify",), ("simulate", "--seeds", "1"), ("faultmatrix",)):
        code, found = shop.calls("choreo", *command)
        assert code != 0, command
        assert "has no way back when step payment.charge fails" in found, command
        assert "Add @reserve.compensate(...)" in found, command
    code, found = shop.tests()
    assert code != 0
    assert "has no way back when step payment.charge fails" in found
