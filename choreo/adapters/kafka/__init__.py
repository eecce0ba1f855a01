"""The log on Apache Kafka, through confluent-kafka. Importing it without the `kafka` extra says which is missing."""

from __future__ import annotations

from choreo.core.errors import MissingExtraError

try:
    from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
    from choreo.adapters.kafka.log import KafkaLog
    from choreo.adapters.kafka.options import KafkaOptions
except ImportError as error:
    raise MissingExtraError.of(
        f"the log on Kafka needs {error.name}, which is not installed",
        where="choreo.adapters.kafka",
        extra="kafka",
    ) from error

__all__ = ["KafkaDeadLetters", "KafkaLog", "KafkaOptions"]
