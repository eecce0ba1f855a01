"""The log on Apache Kafka, through confluent-kafka. Needs the `kafka` extra, and says so when it is missing."""

from __future__ import annotations

from choreo.core.errors import MissingExtraError

try:
    import confluent_kafka as _client
except ImportError as error:
    raise MissingExtraError(
        "the Kafka client is not installed",
        where="choreo.adapters.kafka",
        remedy="pip install 'choreo[kafka]'",
    ) from error

from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
from choreo.adapters.kafka.log import KafkaLog
from choreo.adapters.kafka.options import KafkaOptions

__all__ = ["KafkaDeadLetters", "KafkaLog", "KafkaOptions"]

del _client
