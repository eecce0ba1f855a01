"""Carried events: their ids, their runs, and the hops of flows that start each other."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.bridge import Content, carried, on_circle, reached, starts
from choreo.core.definition import CarryDefinition, FlowDefinition
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from tests.core.plain import PICK, flow

EVENT = Envelope("e-1", "OrderConfirmed", "o-1", "order", run="r-1", hops=3, time_ms=5, traceparent="00-a-b-01")
CONTENT = Content("InvoiceRequested", "i-1", "application/json", b"{}")
ORDER = flow()
INVOICE = flow(name="invoice", starts="InvoiceRequested", version=4)


def starting(name: str, *to: str, hops_max: int = 0) -> FlowDefinition:
    """Return a flow that starts runs of others."""
    carries = tuple(CarryDefinition("Done", other, (f"Start{other}",), made=True) for other in to)
    return flow(name=name, starts=f"Start{name}", carries=carries, hops_max=hops_max)


def by_name(*flows: FlowDefinition) -> dict[str, FlowDefinition]:
    """Return the flows by name."""
    return {one.name: one for one in flows}


def test_a_start_begins_a_run_of_its_own_and_names_its_cause() -> None:
    """The time and the trace are those of the event that it is of, the version is the other flow's."""
    said = carried(ORDER, INVOICE, EVENT, CONTENT, circle=False)
    assert (said.flow, said.type, said.key, said.run, said.version) == ("invoice", *CONTENT[:2], said.id, 4)
    assert said.reason == "carried from flow order, key o-1"
    assert (said.causation, said.time_ms, said.traceparent, said.hops) == ("e-1", 5, "00-a-b-01", 0)


def test_an_awaited_event_leaves_its_run_to_the_key() -> None:
    """The run of the one flow means nothing in the other."""
    said = carried(ORDER, flow(name="pick", waits=(PICK,)), EVENT, CONTENT._replace(type="Picked"), circle=False)
    assert said.run == ""


def test_the_same_event_is_the_same_event_over_there_each_time() -> None:
    """And another one in each flow, and for each event."""
    once, again = (carried(ORDER, INVOICE, EVENT, CONTENT, circle=False) for _ in range(2))
    others = {
        carried(ORDER, INVOICE, replace(EVENT, id="e-2"), CONTENT, circle=False).id,
        carried(ORDER, replace(INVOICE, name="bill"), EVENT, CONTENT, circle=False).id,
        carried(replace(ORDER, name="other"), INVOICE, EVENT, CONTENT, circle=False).id,
    }
    assert once == again
    assert len({once.id, *others}) == 4


def test_flows_that_start_each_other_end_at_the_bound() -> None:
    """Hops are counted on from run to run."""
    bounded = replace(ORDER, hops_max=4)
    assert carried(bounded, INVOICE, EVENT, CONTENT, circle=True).hops == 4
    with pytest.raises(ConflictError, match="more than 4 hops: OrderConfirmed came round too often"):
        carried(bounded, INVOICE, replace(EVENT, hops=4), CONTENT, circle=True)


def test_a_circle_is_one_of_starts() -> None:
    """An answer that a run waits for leads to no new run."""
    answered = flow(name="B", starts="StartB", carries=(CarryDefinition("Done", "A", ("Picked",)),))
    flows = by_name(replace(starting("A", "B"), waits=(PICK,)), answered)
    assert not on_circle(flows, flows["A"], flows["A"].carries[0])
    flows = by_name(starting("A", "B"), starting("B", "C"), starting("C", "A", "D"), starting("D", "E"))
    assert on_circle(flows, flows["A"], flows["A"].carries[0])
    assert not on_circle(flows, flows["C"], flows["C"].carries[1])
    assert reached("C", lambda name: starts(flows, flows[name]) if name in flows else ()) == {"A", "B", "C", "D"}
