"""Versions of a flow: a run is folded by the definition of its version for its whole life."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.errors import VersionError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.core.timers import due
from choreo.testing import elapsed, event, given, undo
from tests.core.order import ORDER, PICKED, but
from tests.core.plain import CHARGE, CONFIRM, HOUR_MS, PICK, RESERVE, flow, step

TAKE = replace(CHARGE, name="payment.take")
SCREEN = step("risk.screen", "StockReserved", "OrderScreened")
SECOND = replace(
    flow(RESERVE, SCREEN, replace(TAKE, on="OrderScreened"), CONFIRM, fails="OrderCancelled"), version=2, deadline_ms=0
)
BOTH = replace(SECOND, frozen=(ORDER, SECOND))
"""Version 2 screens before the payment, whose step has another name; version 1 is frozen beside it."""
PAID = ("OrderPlaced", "StockReserved", "PaymentCharged")


def start(version: int) -> object:
    """Return a start of that version."""
    return event("OrderPlaced", version=version)


def test_a_run_in_flight_goes_on_under_its_own_version() -> None:
    """After the deployment its next step is still that of version 1, and its effects are undone by their names."""
    story = given(ORDER, "OrderPlaced").declared_anew(BOTH)
    story.when("StockReserved").then(expected=["payment.charge"])
    story.when("PaymentCharged").then(expected=["mail.confirm"])
    story.when("choreo.CancelRequested").then("choreo.CompensationStarted", undo("payment.charge", version=1))


def test_an_outcome_in_a_scenario_is_of_the_step_that_its_run_has() -> None:
    """After a deployment too: without `step=` it names that of version 1 and its trigger, as the host does."""
    story = given(ORDER, "OrderPlaced", "StockReserved").declared_anew(BOTH).when("PaymentCharged")
    charged, reserved = story.log[-1].event, story.log[story.offset_of("StockReserved")].event
    assert (charged.step, charged.causation, charged.hops) == ("payment.charge", reserved.id, reserved.hops + 1)
    story = given(BOTH, start(2), "StockReserved", "OrderScreened", "PaymentCharged")
    assert story.log[-1].event.step == "payment.take"


def test_a_run_that_starts_after_the_deployment_follows_the_new_version() -> None:
    """Both kinds stand side by side in one log."""
    story = given(BOTH, start(2), event("StockReserved", version=2)).then(expected=["risk.screen"])
    story.when(event("OrderScreened", version=2)).then(expected=["payment.take"])
    assert [run.version for run in story.runs] == [2]


def test_events_of_a_run_need_not_name_its_version() -> None:
    """The run has it from its start."""
    given(BOTH, start(2), "StockReserved", "OrderScreened").then(expected=["payment.take"])


def test_a_rebuild_gives_the_same_state_after_a_renamed_step() -> None:
    """Without the frozen version the completed order would be refunded: its effect has no step any more."""
    done = given(ORDER, *PAID, "OrderConfirmed").then(status="completed")
    state = KeyState()
    for record in done.log:
        state, _ = react(FlowTable(BOTH), state, record)
    assert state == done.state


def test_a_wait_of_the_old_version_ends_by_its_own_time() -> None:
    """Version 2 waits half as long; the promise to version 1 stands."""
    shorter = replace(PICKED, version=2, waits=(replace(PICK, timeout_ms=HOUR_MS // 2),))
    both = replace(shorter, frozen=(PICKED, shorter))
    story = given(PICKED, *PAID).declared_anew(both).when(elapsed("45m")).then_nothing()
    story.when(elapsed("20m")).then(cause="Picked did not come within 1h: PickTimedOut")
    given(both, start(2), *PAID[1:]).when(elapsed("45m")).then(cause="Picked did not come within 30m: PickTimedOut")


def test_a_start_without_a_version_is_of_version_1_as_long_as_that_is_frozen() -> None:
    """After its file is gone it is of the present one: a foreign producer names none."""
    assert given(BOTH, "OrderPlaced").runs[0].version == 1
    alone = replace(SECOND, frozen=(SECOND,))
    story = given(alone, "OrderPlaced", "StockReserved").then(expected=["risk.screen"])
    assert story.runs[0].version == 2


def test_without_frozen_versions_every_run_follows_the_declaration() -> None:
    """As long as nobody freezes, `version=` is only a number on the events."""
    story = given(ORDER, "OrderPlaced").declared_anew(SECOND).when("StockReserved").then(expected=["risk.screen"])
    assert story.runs[0].version == 1
    assert FlowTable(SECOND).of(7).flow is SECOND


def test_a_version_that_is_not_frozen_here_is_refused_and_keeps_its_state() -> None:
    """The error names the file; no timer of the run comes meanwhile, and none is lost."""
    story = given(ORDER, "OrderPlaced", read_back=True)
    before = story.state
    alone = FlowTable(replace(SECOND, frozen=(SECOND,)))
    story.declared_anew(alone.flow)
    with pytest.raises(VersionError, match=r"flows/order\.1\.json.*version 1 of flow order is in flight") as refused:
        story.when("StockReserved")
    assert "Restore the file" in refused.value.remedy
    assert story.state == before
    late_ms = story.now_ms + 3 * 24 * HOUR_MS
    assert due(alone, story.key, before, late_ms) == []
    types: list[Envelope] = due(FlowTable(BOTH), story.key, before, late_ms)
    assert "choreo.FlowDeadlinePassed" in [fact.type for fact in types]


def test_a_scaled_flow_scales_its_frozen_versions() -> None:
    """The clock is never scaled, and no version is left out."""
    scaled = BOTH.scaled(60)
    assert [each.deadline_ms for each in scaled.frozen] == [ORDER.scaled(60).deadline_ms, 0]
    assert FlowTable(scaled).of(1).flow.time_scale == 60


def test_a_step_that_only_the_old_version_has_is_known() -> None:
    """Its events are no garbage on the log, also where the new version never names them."""
    without = replace(but(ORDER, without="payment.charge"), version=2)
    table = FlowTable(replace(without, frozen=(ORDER, without)))
    assert "payment.charge" in table.of(1).steps
    assert "payment.charge" not in table.of(2).steps
