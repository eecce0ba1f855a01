"""A check that cannot fail is no check: the auditor finds each kind of breach in a log made by hand.

And none in a sound one. Each case is one thing that is wrong, and words of the sentence that must say so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.auditor import audit
from tests.audit.harness import Harness
from tests.audit.shape import Durations, Told

TOLD = Told(
    acknowledged={"OrderPlaced": "o"},
    durations=Durations(
        wait_ms={"wait.ShipmentPicked": 1_000}, flow_ms=60_000, undo_ms={"shipping.create": 5_000}, end_ms=60_000
    ),
    plain=frozenset({"o"}),
)


def found(harness: Harness, told: Told = TOLD) -> list[str]:
    """Return the auditor's findings about the scene."""
    return audit(harness.database, harness.folder, told).violations


def begun(count: int) -> str:
    """Return SQL: the charge's attempts in the inbox."""
    return f"INSERT INTO attempts VALUES ('OrderPlaced', 'StockReserved', 'payment.charge', {count})"


def again(type_: str) -> str:
    """Return SQL: the same fact a second time, under another id."""
    return f"""INSERT INTO log SELECT topic, partition, 99, 99000, 'other', type, key, run, step, causation, entry,
        certain, headers, data FROM log WHERE type = '{type_}'"""


@pytest.mark.parametrize("tell", [Harness.append_completed, Harness.append_compensated])
def test_a_sound_log_has_no_violation(tmp_path: Path, tell: Callable[[Harness], None]) -> None:
    """Both ends of a run, without a fault."""
    harness = Harness(tmp_path)
    tell(harness)
    assert found(harness) == []


SPOILT_COMPLETED = [
    ("promise 1: order o: its start OrderPlaced was acknowledged and is not in the log", "log",
     "DELETE FROM log WHERE type = 'OrderPlaced'"),
    ("promise 1: order o: its start OrderPlaced is in the log and has no run", "log", "DELETE FROM instances"),
    ("promise 1: ShipmentPicked at 0/4 belongs to run x, whose start is not in the log", "log",
     "UPDATE log SET run = 'x' WHERE type = 'ShipmentPicked'"),
    ("promise 2: order o, run OrderPlaced: PaymentCharged happened 2 times", "log", again("PaymentCharged")),
    ("promise 2: order o: 2 charges stand, 1 runs completed", "bank",
     "INSERT INTO charges VALUES ('d', 'o', 500, 'charged')"),
    ("promise 2: order o: 2 shipments were made in 1 runs", "carrier",
     "INSERT INTO shipments VALUES ('t', 'o', 'cancelled')"),
    ("promise 2: order p: 1 charges stand, 0 runs completed", "bank",
     "INSERT INTO charges VALUES ('d', 'p', 500, 'charged')"),
    ("promise 2: order o: 0 confirmations, 1 runs completed", "post", "DELETE FROM sent"),
    ("promise 2: order o: payment.charge began 2 times, and no crash interrupted it", "log", begun(2)),
    ("promise 3: order o, run OrderPlaced: it is open; the last that was read of it is OrderConfirmed", "log",
     "DELETE FROM log WHERE type = 'choreo.FlowCompleted'"),
    ("promise 3: order o, run OrderPlaced: it is terminated", "log",
     "UPDATE log SET type = 'choreo.FlowTerminated' WHERE offset = 6"),
    ("promise 3: order o, run OrderPlaced: people are shown running, by the log it is completed", "log",
     "UPDATE instances SET status = 'running'"),
    ("promise 3: order o, run OrderPlaced: it completed without OrderConfirmed", "log",
     "DELETE FROM log WHERE type = 'OrderConfirmed'"),
    ("promise 3: order o, run OrderPlaced: it completed and was turned as well", "log",
     "UPDATE log SET type = 'choreo.CompensationStarted' WHERE type = 'ShipmentPicked'"),
    ("promise 5: order o, run OrderPlaced: it took 98000 ms to end, more than its bound of 60000 ms", "log",
     "UPDATE log SET stamp_ms = 99000 WHERE offset = 6"),
    ("promise 7: order o: OrderConfirmed at 0/5 has no trigger before it", "log",
     "DELETE FROM log WHERE type = 'ShipmentPicked'"),
    ("promise 8: shipping set 0/2 aside, which is sound: hm", "log",
     "INSERT INTO dead_letters VALUES (1, 0, 2, 'shipping', 'hm')"),
]  # fmt: skip


@pytest.mark.parametrize(("published", "file", "sql"), SPOILT_COMPLETED)
def test_what_is_wrong_with_a_completed_run_is_found(tmp_path: Path, published: str, file: str, sql: str) -> None:
    """All went well; then somebody changed one thing in a file."""
    harness = Harness(tmp_path)
    harness.append_completed()
    harness.run_sql(file, sql)
    assert published in "\n".join(found(harness))


SPOILT_COMPENSATED = [
    ("promise 2: order o: 1 charges stand, 0 runs completed", "bank", "DELETE FROM refunds"),
    ("promise 2: order o: 1 shipments stand, 0 runs completed", "carrier", "DELETE FROM cancellations"),
    ("promise 2: order o: its charge was undone 2 times", "bank", "INSERT INTO refunds VALUES ('c', 500)"),
    ("promise 2: the bank took 100 cents in all; its charges that stand come to 0", "bank",
     "UPDATE refunds SET amount_cents = 400"),
    ("promise 2: a charge was undone that never was: x", "bank", "INSERT INTO refunds VALUES ('x', 0)"),
    ("promise 2: article tea: 1 are gone from the shelf, 0 are reserved", "warehouse", "UPDATE stock SET on_hand = 9"),
    ("promise 2: order o: 2 letters of cancellation", "post",
     "INSERT INTO sent VALUES ('o', 'letter'), ('o', 'letter')"),
    ("promise 3: order o, run OrderPlaced: it was compensated without a turn", "log",
     "DELETE FROM log WHERE type = 'choreo.CompensationStarted'"),
    ("promise 4: order o, run OrderPlaced: compensated, but the effect of inventory.reserve is requested", "log",
     "DELETE FROM log WHERE type = 'StockReleased'"),
    ("PaymentRefunded at 0/99: payment.charge was undone before, under another id", "log", again("PaymentRefunded")),
    ("PaymentRefunded at 0/9 undoes what nobody asked to undo", "log",
     "DELETE FROM log WHERE id = 'ask payment.charge'"),
    ("at 0/8 asks to undo payment.charge while the undo of shipping.create was not answered", "log",
     "UPDATE log SET causation = 'PickTimedOut' WHERE id = 'ask payment.charge'"),
    ("at 0/8 asks to undo payment.charge though payment.charge had nothing open", "log",
     "UPDATE log SET causation = 'PaymentRefunded' WHERE id = 'ask payment.charge'"),
    ("at 0/8 was decided on x, which is no event of the run", "log",
     "UPDATE log SET causation = 'x' WHERE id = 'ask payment.charge'"),
    ("promise 4: order o, run OrderPlaced: compensated, but something was undone after that", "log",
     "UPDATE log SET offset = 99 WHERE type = 'StockReleased'"),
    ("promise 5: PickTimedOut at 0/4 was said 500 ms before it was due", "log",
     "UPDATE log SET stamp_ms = 4500 WHERE type = 'PickTimedOut'"),
    ("PickTimedOut at 0/4 says it was due at 4800; by its declaration it was at 5000", "log",
     """UPDATE log SET headers = '{"due_ms": 4800}' WHERE type = 'PickTimedOut'"""),
]  # fmt: skip


@pytest.mark.parametrize(("published", "file", "sql"), SPOILT_COMPENSATED)
def test_what_is_wrong_with_a_compensated_run_is_found(tmp_path: Path, published: str, file: str, sql: str) -> None:
    """All was undone as promised; then somebody changed one thing in a file."""
    harness = Harness(tmp_path)
    harness.append_compensated()
    harness.run_sql(file, sql)
    assert published in "\n".join(found(harness))


def test_undoing_the_oldest_first_is_found(tmp_path: Path) -> None:
    """A request must be for the newest entry that was open when it was decided."""
    harness = Harness(tmp_path)
    harness.append_forward()
    harness.append("PickTimedOut", trigger="ShipmentCreated", due_ms=5_000)
    harness.append("choreo.CompensationStarted", "PickTimedOut")
    harness.append_compensation("payment.charge", "StockReserved", "PaymentRefunded", "PickTimedOut")
    harness.append_compensation("shipping.create", "PaymentCharged", "ShipmentCancelled", "PaymentRefunded")
    harness.append_compensation("inventory.reserve", "OrderPlaced", "StockReleased", "ShipmentCancelled")
    harness.append_end()
    assert any("undo payment.charge though shipping.create was the newest open" in breach for breach in found(harness))


def test_a_completed_run_of_which_something_was_undone_is_found(tmp_path: Path) -> None:
    """Of a completed run everything stands."""
    harness = Harness(tmp_path)
    harness.append_compensation_started()
    harness.append("choreo.FlowCompleted")
    assert any("completed, but the effect of inventory.reserve is certain and undone" in one for one in found(harness))


def test_a_failed_undo_under_a_compensated_run_is_found(tmp_path: Path) -> None:
    """A failed compensation leaves the run stuck, never compensated."""
    harness = Harness(tmp_path)
    append_declined(harness, certain=1)
    harness.append_request("inventory.reserve", "OrderPlaced", "outcome")
    harness.append("choreo.CompensationFailed", entry="inventory.reserve", round=1)
    harness.append("choreo.FlowCompensated")
    assert any("compensated, but the effect of inventory.reserve is failed" in breach for breach in found(harness))


def test_a_doubt_is_settled_by_nothing_to_undo(tmp_path: Path) -> None:
    """The charge failed in doubt; its undo found nothing: that is an answer."""
    harness = Harness(tmp_path)
    append_declined(harness)
    append_nothing_to_compensate(harness)
    append_released(harness, "choreo.NothingToCompensate")
    assert found(harness) == []


def test_a_certain_failure_needs_no_undo(tmp_path: Path) -> None:
    """The only attempt was declined: nothing can have been charged."""
    harness = Harness(tmp_path)
    append_declined(harness, certain=1)
    append_released(harness, "outcome")
    assert found(harness) == []


def test_a_certain_failure_that_is_repeated_without_certainty_leaves_a_doubt(tmp_path: Path) -> None:
    """The inbox was lost, and the step ran again in the compensated run: that attempt may have left an effect."""
    harness = Harness(tmp_path)
    append_declined(harness, certain=1)
    append_released(harness, "outcome")
    harness.append("PaymentDeclined", "StockReserved", id="outcome", step="payment.charge", certain=0)
    assert any("the effect of payment.charge, which is in doubt, is open" in breach for breach in found(harness))
    append_nothing_to_compensate(harness)
    harness.append("choreo.FlowCompensated", "ask payment.charge", id="end-2")
    assert found(harness) == []


def test_a_doubt_nobody_asked_about_is_found(tmp_path: Path) -> None:
    """A failure that is not certain may have charged."""
    harness = Harness(tmp_path)
    append_declined(harness)
    append_released(harness, "outcome")
    assert any("the effect of payment.charge, which is in doubt, is open" in breach for breach in found(harness))


def test_a_late_success_opens_a_doubt_again(tmp_path: Path) -> None:
    """A charge that comes to light after NothingToCompensate must be refunded, though it has its failure's id."""
    harness = Harness(tmp_path)
    append_declined(harness)
    append_nothing_to_compensate(harness)
    harness.append("PaymentCharged", "StockReserved", id="outcome", step="payment.charge")
    append_released(harness, "choreo.NothingToCompensate")
    assert any("the effect of payment.charge is open" in breach for breach in found(harness))


def test_a_timer_that_was_never_said_is_found(tmp_path: Path) -> None:
    """The wait for the pick was over two seconds ago, and the log goes on without a word of it."""
    harness = Harness(tmp_path)
    harness.append_forward()
    for number in range(3):
        harness.append("choreo.StepAttemptFailed", id=f"later {number}")
    published = "PickTimedOut was due 2000 ms before the log's end and was never said"
    assert any(published in breach for breach in found(harness))


def test_outcomes_out_of_the_order_of_their_triggers_are_found(tmp_path: Path) -> None:
    """Two runs of one order: the step must answer them one after the other."""
    harness = Harness(tmp_path)
    harness.append("OrderPlaced")
    harness.append("OrderPlaced", id="again", run="again")
    harness.append("StockReserved", "again", id="second", run="again", step="inventory.reserve")
    harness.append("StockReserved", "OrderPlaced", step="inventory.reserve")
    published = "promise 7: order o: StockReserved at 0/3 answers an older trigger than StockReserved at 0/2 before it"
    assert published in found(harness)


def test_poison_that_was_swallowed_is_found(tmp_path: Path) -> None:
    """A record that nobody can handle must be a dead letter."""
    harness = Harness(tmp_path)
    harness.append_completed()
    told = Told(acknowledged={}, poisoned=frozenset({(0, 4)}))
    assert found(harness, told) == ["promise 8: the poisoned record 0/4 is no dead letter"]


def test_an_interrupted_attempt_may_run_again(tmp_path: Path) -> None:
    """The one way to a second run of a handler: its process died before the outcome was recorded."""
    harness = Harness(tmp_path)
    harness.append_completed()
    harness.run_sql("log", begun(2))
    told = Told(acknowledged={}, plain=frozenset({"o"}), interrupted=frozenset({("StockReserved", "payment.charge")}))
    assert found(harness, told) == []


def test_a_call_that_no_attempt_explains_is_found(tmp_path: Path) -> None:
    """The gateway counts its calls, the inbox the attempts: a handler does not run uncounted."""
    harness = Harness(tmp_path)
    harness.append_completed()
    harness.run_sql("bank", "INSERT INTO calls VALUES ('charge', 'c', 2)")
    harness.run_sql("log", begun(1))
    assert found(harness) == ["promise 2: order o: charge was called 2 times, 1 attempts were begun"]


def append_declined(harness: Harness, certain: int = 0) -> None:
    """Append a run with reserved stock and a failed payment; compensation starts."""
    harness.append("OrderPlaced")
    harness.append("StockReserved", "OrderPlaced", step="inventory.reserve")
    harness.append("PaymentDeclined", "StockReserved", id="outcome", step="payment.charge", certain=certain)
    harness.append("choreo.CompensationStarted", "outcome")


def append_nothing_to_compensate(harness: Harness) -> None:
    """Append a compensation of the payment that finds nothing."""
    harness.append_request("payment.charge", "StockReserved", "outcome")
    harness.append("choreo.NothingToCompensate", "ask payment.charge", entry="payment.charge", round=1)


def append_released(harness: Harness, causation: str) -> None:
    """Append the release of the stock, and the run's end."""
    harness.append_compensation("inventory.reserve", "OrderPlaced", "StockReleased", causation)
    harness.append("choreo.FlowCompensated", "StockReleased")
    harness.show("compensated")
    harness.run_sql("warehouse", "INSERT INTO reservations VALUES (1, 'r', 'o', 'released')")
    harness.run_sql("warehouse", "INSERT INTO releases VALUES ('r')")
