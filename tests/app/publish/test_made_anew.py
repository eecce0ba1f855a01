"""A start whose class makes a field anew for each event, sent again by a client that heard no answer."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from pydantic import Field

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.publish.publisher import Publisher
from choreo.app.query.flows import Flows
from choreo.core.errors import ConflictError
from choreo.testing.clock import VirtualClock


class Asked(Event):
    """A question with a number that nobody needs to give."""

    key: str
    number: UUID = Field(default_factory=uuid4)
    tags: list[str] = Field(default_factory=list)


class Answered(Event):
    """The answer."""

    key: str


desk = Service("desk")


@desk.step(on=Asked, emits=Answered, effect=False)
async def answer(event: Asked, ctx: StepContext) -> Answered:
    """Answer it."""
    return Answered(key=event.key)


flow = Flow("order", key="key", starts=Asked, completes=Answered, services=[desk], deadline="1h")


@pytest.fixture
async def publisher() -> Publisher:
    """Return the publisher, over an empty log."""
    backend = MemoryBackend(VirtualClock(), lease_s=3_600)
    await backend.log.create("order", 1)
    flows = Flows({"order": flow.draft()}, {"order": flow.event_classes})
    return Publisher(flows, backend.log, backend.read_model, AvroCodec(), VirtualClock(), new_id=lambda: "new")


async def test_a_start_with_a_field_made_anew_is_the_same_when_it_is_sent_again(publisher: Publisher) -> None:
    """The second has another number, which nobody gave: the first one's receipt answers it."""
    fields = {"key": "k-1"}
    first = await publisher.publish("order", fields, type_="Asked", idempotency_key="i")
    again = await publisher.publish("order", fields, type_="Asked", idempotency_key="i")
    as_object = await publisher.publish("order", Asked(key="k-1"), idempotency_key="i")
    assert [(one.id, one.position, one.duplicate) for one in (again, as_object)] == [
        (first.id, first.position, True)
    ] * 2


@pytest.mark.parametrize("given", [{"number": "00000000-0000-4000-8000-000000000001"}, {"tags": ["late"]}])
async def test_another_value_that_was_given_is_a_mistake(publisher: Publisher, given: dict[str, object]) -> None:
    """Silence would lose it; a default that is always the same is a value like any other."""
    await publisher.publish("order", {"key": "k-1"}, type_="Asked", idempotency_key="i")
    with pytest.raises(ConflictError, match="another Idempotency-Key"):
        await publisher.publish("order", {"key": "k-1", **given}, type_="Asked", idempotency_key="i")
