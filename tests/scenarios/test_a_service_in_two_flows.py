"""A service takes part in two flows, with some of its steps in one of them: one name, one consumer group, one inbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from choreo import DeclarationError, Flow, Service, StepContext
from choreo.settings import load
from choreo.wiring import open_app
from choreo.wiring.hosting import step_hosts
from tests.support.two_flows import FLOWS, SEEN, Charged, Due, Extended, TwoFlows


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_each_flow_has_the_steps_it_names(tmp_path: Path, *, memory: bool) -> None:
    """Key fields differ, and an event of a foreign program with one id in both logs is two events."""
    flows = TwoFlows()
    settings = load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none", partitions=2)
    assert await flows.play(settings, memory=memory) == SEEN
    assert [step.name for step in flows.orders.definition.steps] == ["payment.charge"]
    assert [step.name for step in flows.plans.definition.steps] == ["payment.charge", "payment.extend"]


async def test_a_service_has_a_host_for_each_of_its_flows(tmp_path: Path) -> None:
    """Both in the group that is named as the service."""
    TwoFlows()
    async with open_app(load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none"), memory=True) as app:
        hosts = step_hosts(app, "payment")
        assert [host.name.partition("-")[0] for host in hosts] == ["payment", "payment"]


async def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    """One group would read for both, and each would miss records of the other."""
    flows = TwoFlows()
    other = Service("payment")

    @other.step(on=Charged, emits=Extended, effect=False)
    def extend(event: Charged, ctx: StepContext) -> Extended:
        raise AssertionError

    TwoFlows().plans.services = (other,)
    with pytest.raises(DeclarationError, match=r"flows orders and plans have two services called payment.*only"):
        async with open_app(load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none"), memory=True):
            raise AssertionError
    assert flows.payment.whole is flows.payment


def test_only_names_steps_of_the_service() -> None:
    """By step or by name; anything else is refused with the steps that there are."""
    flows = TwoFlows()
    payment, charge = flows.payment, flows.payment.steps["charge"]
    assert list(payment.only("extend", charge).steps) == ["extend", "charge"]
    assert payment.only("charge").only("charge").whole is payment
    other = Service("mail")
    mistakes = (
        (payment.only, "it names no step. Name the steps"),
        (lambda: payment.only("refund"), "'refund' is no step of it. Its steps are: charge, extend."),
        (lambda: other.only(charge), "payment.charge is no step of it. Its steps are: none yet."),
        (lambda: payment.only(TwoFlows().payment.steps["charge"]), "payment.charge is no step of it."),
        (lambda: payment.only(charge, "charge"), "step charge is named twice. Name each step once."),
        (lambda: payment.only(charge).step(on=Due, emits=Extended), "Declare it on the service itself"),
    )
    for mistake, sentence in mistakes:
        with pytest.raises(DeclarationError, match=sentence.replace(".", r"\.")):
            mistake()


def test_a_service_is_named_once_in_a_flow() -> None:
    """Two parts of one service are one part with the steps of both."""
    payment = TwoFlows().payment
    with pytest.raises(DeclarationError, match=r"service payment is named twice.*only"):
        Flow(
            "orders",
            key="order_id",
            starts=Due,
            completes=Extended,
            services=[payment.only("charge"), payment.only("extend")],
        )
