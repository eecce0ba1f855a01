"""Settings for librdkafka: those that correctness needs, those that choreo prefers, those of the user.

Any librdkafka setting comes as `CHOREO_KAFKA_` + its name with `_` for `.`: CHOREO_KAFKA_SECURITY_PROTOCOL is
`security.protocol`. This module passes the values of secrets to the client only.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from choreo.core.errors import SettingsError
from choreo.redaction import MASK, is_secret, redactor_of

ENVIRONMENT = "CHOREO_KAFKA_"
ISOLATION = "read_committed"
"""Of every consumer, the tracker's too: records of aborted transactions are never delivered.

A transaction that stays open holds back the records behind it; this is measured and reported.
"""

_COMMON: Mapping[str, Any] = {
    "client.id": "choreo",
    # A broker that closes an idle connection is normal.
    "log.connection.close": False,
    # After a broker's return its clients reconnect within a second; the default is 10.
    "reconnect.backoff.max.ms": 1_000,
    # A broker that does not answer is left after 10 s instead of 60; the caller gets an error, and tries again.
    "socket.timeout.ms": 10_000,
}
_PRODUCER_RULES: Mapping[str, Any] = {
    # A broker that creates topics by itself gives them other settings than a log needs. The client's default is true.
    "allow.auto.create.topics": False,
    "enable.idempotence": True,
    "acks": "all",
    # Java's rule for the partition of a key; librdkafka's default is another one.
    "partitioner": "murmur2_random",
}
_PRODUCER: Mapping[str, Any] = {
    # A batch is handed over whole, so a wait for more gains nothing: messages that come during a request go with the
    # next one. Median until batches of 1, 20 and 500 are acknowledged: 0.3, 1.5 and 3.9 ms; with a linger of 1 ms it
    # was 1.7, 3.1 and 3.7.
    "linger.ms": 0,
    # Longer than a broker's fail-over, shorter than the timeout of a REST client.
    "delivery.timeout.ms": 15_000,
}
_MESSAGE_BYTES_MAX = 1_000_000
FACT_BYTES_MAX = 65_536
"""The largest size of choreo's own facts: seven texts of 4 KiB, and twice a reason of 2,000 characters."""
_SMALL_BATCH_BYTES = FACT_BYTES_MAX // 2
_WAITING_KBYTES = 65_536
"""The producer's queue, and at least two messages of the largest size; its default is a gigabyte."""
_FETCH_BYTES = 8 << 20
"""The size of one answer to a consumer; its default is 50 MB."""
_CONSUMER_RULES: Mapping[str, Any] = {
    "group.protocol": "classic",
    "partition.assignment.strategy": "cooperative-sticky",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    # Reports the end of a partition whose last entries are no records (markers of a foreign transaction).
    "enable.partition.eof": True,
    "isolation.level": ISOLATION,
}
_CONSUMER: Mapping[str, Any] = {
    # A dead member is replaced in 10 s.
    "session.timeout.ms": 10_000,
    # Hosts poll several times a second, handlers run elsewhere: a host that has not polled for a minute is stuck.
    "max.poll.interval.ms": 60_000,
    # How long fetching rests while the queue is full; the default of a second caps it at a third of the speed.
    "fetch.queue.backoff.ms": 10,
    # A partition with a long backlog keeps others waiting behind this many records at most, about 0.2 s of work.
    "queued.min.messages": 5_000,
    # Bytes that the client keeps; its default is 64 MiB, and with records of the largest size all of it is used.
    "queued.max.messages.kbytes": 16_384,
    "fetch.error.backoff.ms": 100,
}
_READER_RULES: Mapping[str, Any] = {
    "group.id": "choreo-readers",  # required by the client; the group is never joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "isolation.level": ISOLATION,
}
_READER: Mapping[str, Any] = {
    # How long the broker waits for more records: the duration of a read at the end.
    "fetch.wait.max.ms": 10,
    # A reader of pieces fetches so much of its one partition ahead, and not 64 MiB.
    "queued.max.messages.kbytes": 4_096,
    "fetch.queue.backoff.ms": 10,
    "fetch.error.backoff.ms": 100,
}
# Errors of these clients come back from their calls; nobody polls their log between calls.
_SILENT: Mapping[str, Any] = {"log_level": 2}
_CONSUMERS_ONLY = re.compile(r"(session|heartbeat|max\.(poll|partition)|fetch|queued|group|check|coordinator|auto)\.")
_PRODUCERS_ONLY = re.compile(r"(linger|queue\.buffering|batch|compression|delivery|sticky|retries|enable\.gapless)\b")
"""The client warns of a setting of the other kind of client."""
_RULES = {**_PRODUCER_RULES, **_CONSUMER_RULES, "request.required.acks": "all"}
_OURS = frozenset({"group.id", "transactional.id"})


class KafkaOptions(msgspec.Struct, frozen=True):
    """The connection to a cluster. `settings`: librdkafka's, by their own names."""

    bootstrap: str
    """`host:port`, several separated by commas."""
    settings: Mapping[str, str] = {}
    prefix: str = ""
    """Put before the name of each topic and group: several installations can share a cluster."""
    instance: str = ""
    """Makes members static: a process that restarts with its instance within the session keeps its partitions."""
    revoke_s: float = 5.0
    """How long a revocation waits until finished work is written."""
    rejoin_s: float = 60.0
    """How long a member that lost its group may take to rejoin by itself, before it is replaced by a new one."""
    still_s: float = 30.0
    """How long records may stand in the log while a member receives nothing, before it is replaced by a new one."""
    request_s: float = 10.0
    """How long the cluster may take for one answer."""
    start_s: float = 60.0
    """How long the first call waits for a broker that is not there yet."""
    flows: int = 1
    """How many flows one process serves, each with a consumer of its own."""

    @classmethod
    def of(cls, bootstrap: str, settings: Mapping[str, str]) -> KafkaOptions:
        """Return options from librdkafka's settings, with `topic.prefix` and `group.instance.id` taken out.

        `bootstrap` takes precedence over `bootstrap.servers`. Raises SettingsError on a setting that correctness
        needs.
        """
        rest = dict(settings)
        servers = rest.pop("bootstrap.servers", "")
        prefix, instance = rest.pop("topic.prefix", ""), rest.pop("group.instance.id", "")
        if not (bootstrap or servers):
            raise SettingsError(
                "no broker is named",
                where=f"{ENVIRONMENT}BOOTSTRAP_SERVERS",
                remedy="Set it to host:port of a broker, such as localhost:9092.",
            )
        for name, value in rest.items():
            _refuse(name, value)
        return cls(bootstrap or servers, rest, prefix, instance)

    def name(self, plain: str) -> str:
        """Return a topic's or group's name in the cluster."""
        return self.prefix + plain

    def producer(self, *, small: bool = False) -> dict[str, Any]:
        """Return the configuration of a producer; `small`: its batches fit into every topic that is fit for a log."""
        waiting = {"queue.buffering.max.kbytes": max(_WAITING_KBYTES, self.message_bytes_max // 512)}
        preferred = {**_PRODUCER, **waiting}
        rules = {**_PRODUCER_RULES, **({"batch.size": _SMALL_BATCH_BYTES} if small else {})}
        return self._client(preferred, rules, _CONSUMERS_ONLY) | {"logger": ClientLogger(self.masked)}

    def consumer(self, group: str, member: str, topic: str) -> dict[str, Any]:
        """Return the configuration of a member of `group`; Kafka's tools show `member` as the client's id."""
        fetch_bytes = max(_FETCH_BYTES, self.message_bytes_max)  # the client accepts no lower value
        own = {"fetch.max.bytes": fetch_bytes, "heartbeat.interval.ms": self._heartbeat_ms}
        config = self._client({**_CONSUMER, **own}, _CONSUMER_RULES, _PRODUCERS_ONLY)
        config.update({"group.id": self.name(group), "client.id": member, "logger": ClientLogger(self.masked)})
        if self.instance:
            config["group.instance.id"] = f"{self.instance}-{topic}"
        return config

    def reader(self, fetch_bytes: int) -> dict[str, Any]:
        """Return the configuration of a consumer that reads at given places, outside of any group."""
        rules = {**_SILENT, **_READER_RULES, "max.partition.fetch.bytes": fetch_bytes}
        return self._client(_READER, rules, _PRODUCERS_ONLY)

    def outsider(self, group: str) -> dict[str, Any]:
        """Return the configuration of a consumer that asks about `group` and never joins it."""
        rules = {**_SILENT, "group.id": self.name(group), "enable.auto.commit": False}
        return self._client({}, rules, _PRODUCERS_ONLY)

    def admin(self) -> dict[str, Any]:
        """Return the configuration of an admin client."""
        return self._client({}, _SILENT, re.compile(f"{_CONSUMERS_ONLY.pattern}|{_PRODUCERS_ONLY.pattern}"))

    def masked(self, text: str) -> str:
        """Return the text without the value of any secret."""
        return redactor_of(frozenset({**self.settings, "bootstrap": self.bootstrap}.items()))(text)

    @property
    def shown(self) -> str:
        """Return the brokers' addresses without secrets."""
        return self.masked(self.bootstrap)

    @property
    def message_bytes_max(self) -> int:
        """Return the largest message that the producer sends: `message.max.bytes`, else the client's own default."""
        value = str(self.settings.get("message.max.bytes", _MESSAGE_BYTES_MAX))
        if not value.isdecimal():
            raise SettingsError(
                f"{value!r} is no number of bytes",
                where=f"{ENVIRONMENT}MESSAGE_MAX_BYTES",
                remedy=f"Write it in digits, such as {_MESSAGE_BYTES_MAX}.",
            )
        if int(value) < FACT_BYTES_MAX:
            raise SettingsError(
                f"message.max.bytes is {int(value):,}: a fact of choreo's own may have {FACT_BYTES_MAX:,} bytes",
                where=f"{ENVIRONMENT}MESSAGE_MAX_BYTES",
                remedy=f"Write {FACT_BYTES_MAX} or more, or leave it out.",
            )
        return int(value)

    @property
    def _heartbeat_ms(self) -> int:
        """Return the heartbeat's interval: above ten flows it grows with their number, up to a third of the session.

        A longer wait of fetches would save as much, and is not worth it: a broker answers a connection's requests in
        their order, so that each first offset of a partition would wait for a fetch before the start.
        """
        return max(1_000, min(100 * self.flows, round(self.session_s * 1_000 / 3)))

    @property
    def session_s(self) -> float:
        """Return the time in which a silent member keeps its partitions; raises SettingsError."""
        return seconds_in(self.settings, "session.timeout.ms", _CONSUMER["session.timeout.ms"])

    @property
    def poll_s(self) -> float:
        """Return how long a member may go without a poll, and a rebalance may last; raises SettingsError."""
        return seconds_in(self.settings, "max.poll.interval.ms", _CONSUMER["max.poll.interval.ms"])

    def __repr__(self) -> str:
        shown = {name: MASK if is_secret(name) else value for name, value in self.settings.items()}
        return self.masked(f"KafkaOptions({self.bootstrap!r}, {shown!r}, {self.prefix!r}, instance={self.instance!r})")

    def _client(
        self, preferred: Mapping[str, Any], rules: Mapping[str, Any], foreign: re.Pattern[str]
    ) -> dict[str, Any]:
        own = {name: value for name, value in self.settings.items() if not foreign.match(name)}
        return {**_COMMON, **preferred, **own, **rules, "bootstrap.servers": self.bootstrap}


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the librdkafka settings among environment variables."""
    return {
        name.removeprefix(ENVIRONMENT).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT)
    }


def seconds_in(settings: Mapping[str, str], name: str, otherwise_ms: int) -> float:
    """Return a setting in milliseconds as seconds; raises SettingsError unless it is a number above 0."""
    value = str(settings.get(name, otherwise_ms))
    if not value.isdecimal() or not int(value):
        raise SettingsError(
            f"{value!r} is no number of milliseconds",
            where=ENVIRONMENT + name.upper().replace(".", "_"),
            remedy=f"Write it in digits, such as {otherwise_ms}.",
        )
    return int(value) / 1_000


def _refuse(name: str, value: str) -> None:
    rule = _RULES.get(name)
    if name in _OURS or (rule is not None and str(value).lower() != str(rule).lower()):
        needed = "choreo's own" if name in _OURS else f"always {str(rule).lower()}"
        raise SettingsError(
            f"{name} is {needed}: choreo's guarantees need it",
            where=ENVIRONMENT + name.upper().replace(".", "_"),
            remedy="Leave it out.",
        )


REPEAT_AFTER_S = 30.0
"""The least time between two equal lines: a client without a broker reports it several times a second."""

_log = logging.getLogger("choreo.adapters.kafka.client")


class ClientLogger:
    """The logger of one client, which calls `log` like a `logging.Logger`'s, in the thread that polls it."""

    def __init__(self, masked: Callable[[str], str]) -> None:
        """Log texts as `masked` returns them: without secrets."""
        self._masked = masked
        self._logged: dict[str, float] = {}

    def log(self, level: int, text: str, *values: object) -> None:
        """Log the text, unless the same kind was logged a moment ago; the first value is the kind, such as FAIL."""
        kind = str(values[0]) if values else text
        now = time.monotonic()
        if now < self._logged.get(kind, now):
            return
        self._logged[kind] = now + REPEAT_AFTER_S
        _log.log(level, "%s", self._masked(text % values))
