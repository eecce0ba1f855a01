"""A small shop behind its use cases: a flow, a backend in memory, states folded from real records. No steps run here.

Tests publish the steps' outcomes; the fold is the core's own, and its views are written as the tracker writes them.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.memory import MemoryBackend
from choreo.app.operator.batches import Batches
from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Publisher
from choreo.app.query.flows import Flows
from choreo.app.query.group_memory import GroupMemory
from choreo.app.query.queries import Queries
from choreo.app.tracking.views import attributes_of, view
from choreo.core import facts, ids
from choreo.core.events import Envelope
from choreo.core.react import react
from choreo.core.state import REQUESTED, KeyState, Run, encode
from choreo.core.timers import due, next_due
from choreo.ports.clock import Clock
from choreo.ports.log import TRACKER_GROUP, CommitBatch
from choreo.ports.state import StateRow
from choreo.testing.clock import VirtualClock

PARTITIONS = 4


class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: str
    customer: str = "ann"
    cents: int = 1_000


class StockReserved(Event):
    """Set aside."""

    order_id: str


class StockReleased(Event):
    """Free again."""

    order_id: str


class PaymentCharged(Event):
    """Charged."""

    order_id: str
    charge: str = "c-1"


class PaymentDeclined(Event):
    """Declined."""

    order_id: str
    reason: str = ""


class PaymentRefunded(Event):
    """Given back."""

    order_id: str


class ShipmentPicked(Event):
    """Published by the warehouse."""

    order_id: str
    picked_by: str = ""


class PickTimedOut(Event):
    """Nobody picked it."""

    order_id: str
    reason: str = ""


class OrderConfirmed(Event):
    """Done."""

    order_id: str


class OrderCancelled(Event):
    """Undone."""

    order_id: str
    reason: str = ""


class CustomerTold(Event):
    """The customer knows."""

    order_id: str


def shop() -> Flow:
    """Reserve → charge (waits for the pick) → confirm; on a cancelled order, tell."""
    stock, payment, desk = Service("stock"), Service("payment"), Service("desk")

    @stock.step(on=OrderPlaced, emits=StockReserved)
    async def reserve(event: OrderPlaced, ctx: StepContext) -> StockReserved:
        return StockReserved(order_id=event.order_id)

    @reserve.compensate(emits=StockReleased)
    async def release(reserved: StockReserved | None, ctx: StepContext) -> StockReleased | None:
        return StockReleased(order_id=ctx.key)

    @payment.step(on=StockReserved, emits=PaymentCharged, fails=PaymentDeclined)
    async def charge(event: StockReserved, ctx: StepContext) -> PaymentCharged | PaymentDeclined:
        return PaymentCharged(order_id=event.order_id)

    @charge.compensate(emits=PaymentRefunded, bars=False)
    async def refund(charged: PaymentCharged | None, ctx: StepContext) -> PaymentRefunded | None:
        return PaymentRefunded(order_id=ctx.key)

    @desk.step(on=ShipmentPicked, emits=OrderConfirmed, effect=False)
    async def confirm(event: ShipmentPicked, ctx: StepContext) -> OrderConfirmed:
        return OrderConfirmed(order_id=event.order_id)

    @desk.step(on=OrderCancelled, emits=CustomerTold, effect=False)
    async def tell(event: OrderCancelled, ctx: StepContext) -> CustomerTold:
        return CustomerTold(order_id=event.order_id)

    flow = Flow(
        "order",
        key="order_id",
        starts=OrderPlaced,
        completes=OrderConfirmed,
        fails=OrderCancelled,
        services=[stock, payment, desk],
        deadline="30d",
    )
    flow.wait(on=PaymentCharged, until=ShipmentPicked, timeout="24h", fails=PickTimedOut)
    return flow


@dataclass
class Shop:
    """The backend, the use cases, and the events that the steps would publish."""

    clock: Clock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        flow = shop()
        self.flows = Flows({"order": flow.draft()}, {"order": flow.event_classes})
        self.table = self.flows.table("order")
        self.backend = MemoryBackend(self.clock, lease_s=3_600)
        self.codec = AvroCodec()
        backend, numbers = self.backend, count(1)
        self.publisher = Publisher(
            self.flows,
            backend.log,
            backend.read_model,
            self.codec,
            self.clock,
            new_id=lambda: ids.derive("test", next(numbers)),
        )
        self.memory = GroupMemory()
        self.operator = Operator(
            self.flows, backend.log, backend.read_model, backend.dead_letters, self.clock, self.codec
        )
        self.queries = Queries(
            self.flows,
            backend.log,
            backend.read_model,
            backend.dead_letters,
            self.codec,
            self.clock,
            memory=self.memory,
        )
        self.states: dict[str, KeyState] = {}
        self._attributes: dict[str, dict[str, str]] = {}

    async def open(self) -> "Shop":
        """Create the topic and join as its tracker."""
        await self.backend.log.create("order", PARTITIONS)
        self.consumer = await self.backend.log.consumer("order", TRACKER_GROUP, "test")
        return self

    async def track(self) -> None:
        """Fold all that stands in the log, until nothing more follows."""
        while True:
            poll = await self.consumer.poll(1_000, 0)
            work: dict[str, StateRow] = {}
            rows: dict[str, Any] = {}
            outputs: list[Envelope] = []
            for record in poll.records:
                event = record.event
                if event.type == self.table.flow.starts:
                    fields = self.codec.fields(OrderPlaced, event.content_type, event.data)
                    self._attributes[event.id] = attributes_of(fields)
                state, decisions = react(self.table, self.states.get(event.key, KeyState()), record)
                self.states[event.key] = state
                outputs += decisions
                work[event.key] = StateRow(
                    "order",
                    record.partition,
                    event.key,
                    state.position,
                    encode(state),
                    next_due(state),
                    state.unacknowledged,
                )
                for run in state.runs:
                    attributes = self._attributes.get(run.id)
                    rows[run.id] = view(self.table, record.partition, event.key, run, attributes)
            if poll.records or poll.read:
                await self.consumer.commit(CommitBatch(outputs, poll.read, (), (), [*work.values()], [*rows.values()]))
            if not poll.records and not poll.assigned:
                return

    async def start(self, key: str, **fields: Any) -> str:
        """Publish a start and fold it; answers its run."""
        receipt = await self.publisher.publish("order", OrderPlaced(order_id=key, **fields))
        await self.track()
        return receipt.run

    async def outcome(self, step: str, event: Any, *, certain: bool = False) -> None:
        """Publish the step's outcome, for its open expectation."""
        run = self.run(event.order_id)
        expected = next(expected for expected in run.expected if expected.step == step)
        await self.append(event, run=run.id, step=step, causation=expected.trigger, certain=certain)

    async def undone(self, event: Any) -> None:
        """Publish the success of the compensation under way."""
        run = self.run(event.order_id)
        entry = next(entry for entry in run.ledger if entry.state == REQUESTED)
        request = ids.of_round("undo-request", entry.id, entry.round)
        fields = {"step": entry.step, "entry": entry.id, "round": entry.round, "causation": request}
        await self.append(event, run=run.id, **fields)

    async def compensation_failed(self, key: str, reason: str) -> None:
        """Publish the failure of the compensation under way."""
        run = self.run(key)
        entry = next(entry for entry in run.ledger if entry.state == REQUESTED)
        await self.fact(
            key, facts.COMPENSATION_FAILED, step=entry.step, entry=entry.id, round=entry.round, reason=reason
        )

    async def fact(self, key: str, type_: str, **fields: Any) -> None:
        """Append a fact without a payload, and fold it."""
        id_ = ids.derive(type_, key, *fields.values())
        await self._append(Envelope(id=id_, type=type_, key=key, flow="order", run=self.run(key).id, **fields))

    async def append(self, event: Any, **headers: Any) -> None:
        """Append an event with its payload, and fold it."""
        id_ = ids.derive(event.event_type, event.order_id, *headers.values())
        content = {"content_type": self.codec.content_type, "data": self.codec.encode(event)}
        envelope = Envelope(
            id=id_, type=event.event_type, key=event.order_id, flow="order", source="choreo/test", **content, **headers
        )
        await self._append(envelope)

    async def pass_due(self, key: str, duration_s: float) -> None:
        """Let time pass and publish the due facts of this key, as the tracker would."""
        assert isinstance(self.clock, VirtualClock)
        await self.clock.advance(duration_s)
        for fact in due(self.table, key, self.states[key], self.clock.now_ms()):
            await self._append(fact)

    async def charged(self, key: str) -> None:
        """Play an order up to where it waits for the pick."""
        await self.start(key)
        await self.outcome("stock.reserve", StockReserved(order_id=key))
        await self.outcome("payment.charge", PaymentCharged(order_id=key))

    async def completed(self, key: str) -> None:
        """Play an order that goes well."""
        await self.charged(key)
        await self.publisher.publish("order", ShipmentPicked(order_id=key, picked_by="bob"))
        await self.track()
        await self.outcome("desk.confirm", OrderConfirmed(order_id=key))

    async def compensated(self, key: str) -> None:
        """Play an order that is declined, its stock released."""
        await self.start(key)
        await self.outcome("stock.reserve", StockReserved(order_id=key))
        declined = PaymentDeclined(order_id=key, reason="no funds")
        await self.outcome("payment.charge", declined, certain=True)
        await self.undone(StockReleased(order_id=key))

    async def stuck(self, key: str) -> None:
        """Play an order whose compensation fails."""
        await self.start(key)
        await self.outcome("stock.reserve", StockReserved(order_id=key))
        await self.outcome("payment.charge", PaymentDeclined(order_id=key), certain=True)
        await self.compensation_failed(key, "the shelf is locked")

    def run(self, key: str) -> Run:
        """Return the key's newest run."""
        return self.states[key].runs[-1]

    async def _append(self, event: Envelope) -> None:
        await self.backend.log.append("order", [event])
        await self.track()


def batches_of(shop: Shop, name: str = "one", **parts: Any) -> Batches:
    """Return the batches of a shop as a process of this name sees them; `parts` take the place of its own."""
    backend = shop.backend
    known = {"log": backend.log, "read_model": backend.read_model, "dead_letters": backend.dead_letters}
    known |= {"notes": backend.notes} | parts
    return Batches(shop.flows, clock=shop.clock, new_name=lambda: name, **known)  # type: ignore[arg-type]
