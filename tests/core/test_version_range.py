"""The versions that a step serves, as they are declared."""

from __future__ import annotations

import pytest

from choreo import DeclarationError, Flow, Service, StepContext
from choreo.core.version_range import EVERY, served
from tests.core.shop import Charged, Declined, Placed, charge


@pytest.mark.parametrize(
    ("text", "has", "shown"),
    [
        ("2-", [2, 3, 99], "2-"),
        ("1-2", [1, 2], "1-2"),
        ("1", [1], "1"),
        ("3-3", [3], "3"),
        (None, [1, 2, 3, 99], "1-"),
    ],
)
def test_a_range_has_the_versions_that_it_names(text: str | None, has: list[int], shown: str) -> None:
    """Both ends are included; nothing means every version."""
    found = served(text, "step payment.charge")
    assert [version for version in (1, 2, 3, 99) if found.has(version)] == has
    assert str(found) == shown
    assert (found is EVERY) == (text is None)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "versions='' is no range of versions"),
        ("0", "versions='0' is no range"),
        ("-2", "versions='-2' is no range"),
        ("1,2", "versions='1,2' is no range"),
        ("v2", "versions='v2' is no range"),
        ("2-1", "versions='2-1' ends before it begins"),
        ("1 - 2", "versions='1 - 2' is no range"),
        (2, "versions=2 is no range"),
        (True, "versions=True is no range"),
        ("9" * 30, "is no range"),
    ],
)
def test_a_wrong_range_is_refused_where_the_step_is_declared(value: object, fault: str) -> None:
    """The remedy shows the three forms."""
    service = Service("payment")
    with pytest.raises(DeclarationError, match=fault) as refused:
        service.step(on=Placed, emits=Charged, fails=Declined, versions=value)(charge)  # type: ignore[arg-type]
    assert refused.value.where == "step payment.charge"
    assert '"2-"' in refused.value.remedy
    assert not service.steps


def test_a_step_of_other_versions_is_no_part_of_the_flow_but_its_events_are() -> None:
    """Runs of version 1 still bring them about."""
    service = Service("payment")

    @service.step(on=Placed, emits=Charged, effect=False, versions="1")
    def old(event: Placed, ctx: StepContext) -> Charged:
        raise AssertionError

    @service.step(on=Placed, emits=Charged, effect=False, versions="2-")
    def new(event: Placed, ctx: StepContext) -> Charged:
        raise AssertionError

    def flow(version: int) -> Flow:
        return Flow("order", key="order_id", starts=Placed, completes=Charged, services=[service], version=version)

    assert [step.name for step in flow(2).definition.steps] == ["payment.new"]
    assert set(flow(2).steps) == {"payment.old", "payment.new"}
    with pytest.raises(DeclarationError, match=r"step payment.new: serves versions 2-, and the flow is of version 1"):
        flow(1).draft()
