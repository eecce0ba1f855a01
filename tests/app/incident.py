"""Incidents for `why`: a shop with members of its services that joined for real, on the memory backend."""

from __future__ import annotations

from choreo.app.query.why.rules import Why
from choreo.core import ids
from choreo.core.events import Envelope
from choreo.ports.log import CommitBatch, Consumer
from choreo.testing.clock import VirtualClock
from tests.app.harness import OrderPlaced, Shop

KEY = "o-1"
SERVICES = ("stock", "payment", "desk")


class Incident:
    """A shop with members of its services that really joined, and do as the test wants."""

    def __init__(self, played: Shop) -> None:
        self.shop = played
        self.members: dict[str, Consumer] = {}

    async def join(self, *services: str, work: bool = True) -> None:
        """Let a process of each service join; `work`: it finishes all that is in the log."""
        for service in services:
            consumer = await self.shop.backend.log.consumer("order", service, f"{service}-pod")
            self.members[service] = consumer
            poll = await consumer.poll(1_000, 0)
            if work:
                await consumer.commit(CommitBatch(done=poll.read))

    async def work(self, *services: str) -> None:
        """Let these processes finish all that is in the log."""
        for service in services:
            poll = await self.members[service].poll(1_000, 0)
            if poll.read:
                await self.members[service].commit(CommitBatch(done=poll.read))

    async def pass_time(self, duration_s: float) -> None:
        """Let time pass for the log and the members."""
        assert isinstance(self.shop.clock, VirtualClock)
        await self.shop.clock.advance(duration_s)

    async def why(self, key: str = KEY) -> Why:
        """Ask, without waiting for the read model."""
        return await self.shop.queries.why("order", key, patience_s=0)


def evidence(answer: Why) -> dict[str, str]:
    """Return the evidence by name."""
    return {each.name: each.value for each in answer.evidence}


async def behind(incident: Incident, keys: list[str]) -> None:
    """Put starts of these keys before the order, none of them handled, and let time pass."""
    await incident.join(*SERVICES, work=False)
    for number, key in enumerate(keys):
        event = OrderPlaced(order_id=key)
        content = {"content_type": incident.shop.codec.content_type, "data": incident.shop.codec.encode(event)}
        start = Envelope(ids.derive("many", number), "OrderPlaced", key, "order", source="test", **content)
        await incident.shop.backend.log.append("order", [start])
    await incident.shop.track()
    await incident.shop.start(KEY)
    await incident.pass_time(60)
