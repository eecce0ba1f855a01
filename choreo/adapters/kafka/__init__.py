"""The log on Apache Kafka, through confluent-kafka. Without the `kafka` extra the import error names the extra.

`backend` connects the parts, with `options` and `registry`, and checks the topics first. `log` is the port: `records`
are events as messages, `producer` sends them, `reader` reads them at given places, `groups` have members that take and
commit them, `dead_letters` stand in topics beside. `cluster` asks about topics and groups, `topics` changes topics,
`adoption` makes another topic a flow's log; `errors` gives all of them texts and remedies.
"""

from __future__ import annotations

from choreo.core.errors import MissingExtraError

try:
    from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
    from choreo.adapters.kafka.log import KafkaLog
    from choreo.adapters.kafka.options import KafkaOptions
except ImportError as _missing:
    raise MissingExtraError.of(
        f"the log on Kafka needs {_missing.name}, which is not installed",
        where="choreo.adapters.kafka",
        extra="kafka",
    ) from _missing

__all__ = ["KafkaDeadLetters", "KafkaLog", "KafkaOptions"]
