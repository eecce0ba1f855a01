"""The reference flow's contract is frozen, and its topic knows every event."""

from pathlib import Path

from choreo import Event
from choreo.adapters.avro.frozen import check
from choreo.adapters.topics_yaml import load_topics
from schemas import orders

ROOT = Path(__file__).resolve().parent.parent.parent
EVENTS = [
    each for each in vars(orders).values() if isinstance(each, type) and issubclass(each, Event) and each is not Event
]


def test_the_contract_is_frozen() -> None:
    """Nobody can change an event and forget its schema."""
    assert check(EVENTS, ROOT / "schemas") == []


def test_the_topic_names_every_event() -> None:
    """And nothing that no class declares."""
    assert sorted(load_topics(ROOT / "topics")["order"].events) == sorted(each.event_type for each in EVENTS)


def test_every_event_carries_the_key() -> None:
    """The key of the flow is a field of each of its events."""
    assert [each.event_type for each in EVENTS if "order_id" not in each.event_fields()] == []
