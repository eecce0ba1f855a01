"""Why declared steps cannot serve runs of a frozen version."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from choreo import Flow, Service, StepContext
from choreo.core.definition import FlowDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.serving import stranding
from tests.core.shop import Charged, Confirmed, Declined, Picked, Placed, Refunded


def project(*, version: int = 2, name: str = "charge", undone: Any = Refunded, **options: Any) -> Flow:
    """Return a flow whose payment is declared so."""
    payment = Service("payment")
    options = {"on": Placed, "emits": Charged, "fails": Declined, **options}
    classes = options["emits"] if isinstance(options["emits"], tuple) else (options["emits"],)

    def handler(event: Any, ctx: StepContext) -> Any:
        raise AssertionError

    hint = classes[0]
    for cls in (*classes[1:], options["fails"]):
        hint |= cls
    handler.__annotations__ = {"event": options["on"], "ctx": StepContext, "return": hint}
    step = payment.step(name=name, **options)(handler)
    if undone:

        def undo(charged: Any, ctx: StepContext) -> Any:
            raise AssertionError

        undo.__annotations__ = {"charged": hint | None, "ctx": StepContext, "return": undone | None}
        undo.__annotations__["charged"] = classes[0] | None if len(classes) == 1 else classes[0] | classes[1] | None
        step.compensate(emits=undone)(undo)
    return Flow("order", key="order_id", starts=Placed, completes=Charged, services=[payment], version=version)


FIRST = project(version=1).draft()


def reasons(flow: Flow, frozen: tuple[FlowDefinition, ...] = (FIRST,), version: int = 1) -> list[str]:
    """Return why runs of this version could not go on."""
    declared = flow.draft()
    table = FlowTable(replace(declared, frozen=(*frozen, declared) if frozen else ()))
    return stranding(table, version, flow.steps)


def test_a_step_that_serves_both_versions_strands_no_run() -> None:
    """It is declared as it was; retries and times are its own affair."""
    assert reasons(project()) == []
    assert reasons(project(versions="1-2", timeout="5s")) == []
    assert reasons(project(), version=2) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "take"}, "step payment.charge is declared no more"),
        ({"versions": "2-"}, "step payment.charge serves versions 2- only"),
        ({"on": Picked}, "step payment.charge is on Picked now, and was on Placed"),
        ({"emits": (Charged, Confirmed)}, "step payment.charge may emit Confirmed, of which version 1 knows nothing"),
        ({"fails": Confirmed}, "step payment.charge may fail with Confirmed, of which version 1 knows nothing"),
        ({"undone": None}, "step payment.charge has no compensation any more"),
        ({"undone": Confirmed}, "step payment.charge is undone by Confirmed, of which version 1 knows nothing"),
    ],
)
def test_a_step_that_cannot_do_what_the_version_was_promised_is_named(options: dict[str, Any], why: str) -> None:
    """With the reason."""
    assert reasons(project(**options)) == [why]


def test_a_version_without_its_file_cannot_go_on() -> None:
    """Nor one of a flow that was never frozen, unless it is the present one."""
    assert reasons(project(), version=7) == ["flows/order.7.json is missing below the schemas, or cannot be read"]
    (why,) = reasons(project(), frozen=())
    assert why.startswith("no version is frozen, so that its rules are lost")
    assert reasons(project(), frozen=(), version=2) == []
