"""The contracts of the reference flows are frozen, and their topics know every event."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from choreo import Event, Flow
from choreo.adapters.avro.frozen import check
from choreo.adapters.topics_yaml import load_topics
from schemas import orders, travel
from services.order_flow import order
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip

ROOT = Path(__file__).resolve().parent.parent.parent
FLOWS = {flow.name: flow for flow in (order, trip, ticket)}


def events(module: object) -> Mapping[str, type[Event]]:
    """Return the event classes of a module, by type."""
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Event)]
    return {each.event_type: each for each in found if each is not Event}


EVENTS = {**events(orders), **events(travel)}


def test_the_contract_is_frozen() -> None:
    """Nobody can change an event and forget its schema."""
    assert check(list(EVENTS.values()), ROOT / "schemas") == []


@pytest.mark.parametrize("flow", FLOWS.values(), ids=list(FLOWS))
def test_the_topic_names_every_event(flow: Flow) -> None:
    """And nothing that the flow does not know."""
    assert sorted(load_topics(ROOT / "topics")[flow.name].events) == sorted(flow.event_classes)


def test_every_event_is_of_a_flow() -> None:
    """A class that no flow uses is no contract."""
    assert {name: cls for flow in FLOWS.values() for name, cls in flow.event_classes.items()} == EVENTS


@pytest.mark.parametrize("flow", FLOWS.values(), ids=list(FLOWS))
def test_every_event_carries_the_key(flow: Flow) -> None:
    """The key of the flow is a field of each of its events."""
    key = flow.definition.key
    assert [name for name, each in flow.event_classes.items() if key not in each.event_fields()] == []
