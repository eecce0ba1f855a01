"""The rule for children: an order that cannot cross is an error with its remedy, and so a dead letter."""

from __future__ import annotations

import pytest

from choreo.app.bridge import ChildrenRule
from choreo.core import facts
from choreo.core.crossing import Plan, Start, encode
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope

DUE = Envelope("d-1", facts.CHILDREN_DUE, "o-1", "order", run="r-1", step="desk.split", trigger="t-1", outcome=7)
PLAN = Plan("parcel", "ParcelRequested", 1, 1, 1, "application/json", [Start("p-1", b"{}")])
PLANNED = Envelope("p-1", facts.CHILDREN_PLANNED, "o-1", "order", run="r-1", data=encode(PLAN))
RULE = ChildrenRule(["order", "parcel"])


def test_an_order_refers_to_its_batch() -> None:
    """Its starts are there; the end of a child needs nothing else."""
    assert RULE.refers(DUE) == 7
    assert RULE.refers(Envelope("e-1", facts.CHILD_ENDED, "p-1", "parcel")) == -1
    (start,) = RULE.say(DUE, PLANNED)
    assert (start.flow, start.type, start.key) == ("parcel", "ParcelRequested", "p-1")


@pytest.mark.parametrize("referred", [None, DUE, Envelope("p-1", facts.CHILDREN_PLANNED, "o-1", "order", data=b"{")])
def test_a_batch_that_cannot_be_read_is_an_error(referred: Envelope | None) -> None:
    """It was deleted, is another record, or is damaged."""
    with pytest.raises(ConflictError, match="offset 7 holds no batch of children that can be read"):
        RULE.say(DUE, referred)


def test_a_flow_of_another_project_is_an_error() -> None:
    """The bridge would wait for its log for ever."""
    with pytest.raises(ConflictError, match=r"there is no flow 'parcel' in this project. Name it in"):
        ChildrenRule(["order"]).say(DUE, PLANNED)
