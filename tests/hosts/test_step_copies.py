"""A handler's arguments and results are its own copies: no change of it reaches another attempt, or the log."""

from __future__ import annotations

from choreo import Event, Part, Retry, Service, StepContext
from choreo.core import ids
from tests.hosts.harness import Charged, Placed, Refunded, both_backends, running_harness

SOON = Retry(initial=0, max_attempts=3)


class Box(Part):
    """A part with a list, which a frozen class does not freeze."""

    items: list[str]


class Packed(Event):
    """An event with parts."""

    order_id: str
    boxes: list[Box]


class Sent(Event):
    """An outcome with parts."""

    order_id: str
    boxes: list[Box]


def emptied(boxes: list[Box]) -> list[list[str]]:
    """Return the boxes' content, then change everything in them that can be changed."""
    held = [[*box.items] for box in boxes]
    boxes.pop().items.clear()
    boxes[0].items.append("x")
    return held


@both_backends
async def test_each_attempt_of_each_step_is_given_its_own_copy(backend: str) -> None:
    """Two steps on one event, three attempts each: none sees what another changed."""
    service = Service("payment")
    seen: list[list[list[str]]] = []

    @service.step(on=Packed, emits=Charged, effect=False, retry=SOON)
    async def first(event: Packed, ctx: StepContext) -> Charged:
        seen.append(emptied(event.boxes))
        if ctx.attempt < 3:
            raise ConnectionError
        return Charged(order_id=event.order_id)

    @service.step(on=Packed, emits=Refunded, effect=False, retry=SOON)
    def second(event: Packed, ctx: StepContext) -> Refunded:
        seen.append(emptied(event.boxes))
        if ctx.attempt < 3:
            raise ConnectionError
        return Refunded(order_id=event.order_id)

    async with running_harness(service, backend=backend) as harness:
        event = Packed(order_id="o-1", boxes=[Box(items=["a"]), Box(items=["b"])])
        await harness.publish(harness.event(event, run="r"))
        await harness.one("Charged")
        await harness.one("Refunded")
    assert seen == [[["a"], ["b"]]] * 6


@both_backends
async def test_each_attempt_of_an_undo_is_given_its_own_copy(backend: str) -> None:
    """Of the outcome that it undoes."""
    service = Service("payment")
    seen: list[list[list[str]]] = []

    @service.step(name="charge", on=Placed, emits=Sent)
    async def charge(event: Placed, ctx: StepContext) -> Sent:
        return Sent(order_id=event.order_id, boxes=[Box(items=["a"]), Box(items=["b"])])

    @charge.compensate(emits=Refunded, retry=SOON)
    async def refund(sent: Sent | None, ctx: StepContext) -> Refunded | None:
        assert sent is not None
        seen.append(emptied(sent.boxes))
        if ctx.attempt < 3:
            raise ConnectionError
        return Refunded(order_id=ctx.key)

    async with running_harness(service, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.one("Sent")
        (at,) = [record.offset for record in await harness.log() if record.event.type == "Sent"]
        await harness.publish(harness.undo_request(placed, outcome=at))
        undone = await harness.one("Refunded")
        assert undone.id == ids.undo(undone.entry, 0)
    assert seen == [[["a"], ["b"]]] * 3


async def test_an_outcome_is_what_it_was_when_it_was_returned() -> None:
    """A handler that keeps a part and changes it in its next call changes no earlier outcome."""
    service, box = Service("payment"), Box(items=[])

    @service.step(on=Placed, emits=Sent, effect=False)
    async def send(event: Placed, ctx: StepContext) -> Sent:
        box.items.append(event.order_id)
        return Sent(order_id=event.order_id, boxes=[box])

    async with running_harness(service) as harness:
        await harness.publish(*(Placed(order_id=f"o-{number}") for number in range(5)))
        published = await harness.published("Sent", 5)
        read = [harness.codec.decode(Sent, one.content_type, one.data) for one in published]
    assert sorted(len(sent.boxes[0].items) for sent in read) == [1, 2, 3, 4, 5]
