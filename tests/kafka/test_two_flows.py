"""On Kafka and Redis one service takes part in two flows, with some of its steps in one of them."""

from __future__ import annotations

from choreo.settings import load
from tests.kafka.conftest import OnKafka
from tests.support.two_flows import FLOWS, SEEN, TwoFlows


async def test_each_flow_has_the_steps_it_names(on_kafka: OnKafka) -> None:
    """The consumers of one group read different topics, and one inbox serves both."""
    flows = TwoFlows()
    on_kafka(FLOWS, 2)
    assert await flows.play(load()) == SEEN
