"""On Kafka and Redis an order starts its parcels as child flows, joins them, and undoes all of them."""

from __future__ import annotations

from choreo.settings import load
from tests.kafka.conftest import OnKafka
from tests.support.parcels import FLOWS, OrderPlaced, Parcels
from tests.support.running import ended, running


async def test_boxes_ship_together_or_not_at_all(on_kafka: OnKafka) -> None:
    """One order completes within its window; of another one a box is refused, and the rest are recalled."""
    parcels = Parcels(window=4)
    on_kafka(FLOWS, 2)
    async with running(load()) as app:
        good = await app.publisher.publish("order", OrderPlaced(order_id="good", boxes=9))
        bad = await app.publisher.publish("order", OrderPlaced(order_id="bad", boxes=5, refused=[4]))
        assert await ended(app, good.position, "good") == "completed"
        assert await ended(app, bad.position, "bad") == "compensated"
    (shipped,) = parcels.joined
    assert [result.key for result in shipped.results] == [f"good-{box}" for box in range(9)]
    assert {box for box, booked in parcels.booked.items() if booked} == {f"good-{box}" for box in range(9)}
