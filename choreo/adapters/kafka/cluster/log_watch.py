"""Watch the log's topics while they are used: transactions that stay open, changed settings, clocks.

Each condition is reported as a dependency and as a number, and cleared when it has passed. Nothing else is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.errors import UNAUTHORIZED, cause_of
from choreo.adapters.log_clock import SKEW_MAX_MS, LogTime, SeenEnd
from choreo.core.errors import NotFoundError, SettingsError, StorageError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error

OPEN_MS = 10_000
"""How long a transaction may be open before it is reported: a healthy one takes well below a second."""
CLOCK = "clock"
Put = Callable[[str, float], None]
"""Takes a number by its name."""


class _Held(NamedTuple):
    """One partition with records behind its stable end."""

    topic: str
    partition: int
    stable: int
    records: int
    since_ms: int


class LogWatch:
    """The watch of one process."""

    def __init__(self, cluster: Cluster, dependencies: Dependencies, put: Put, log_time: LogTime, own: Clock) -> None:
        """Report numbers to `put`; compare `own`, the machine's clock, with the log's time."""
        self._cluster = cluster
        self._dependencies = dependencies
        self._put = put
        self._log_time = log_time
        self._own = own
        self._held: dict[tuple[str, int], _Held] = {}

    async def look(self, topic: str, problem: Callable[[int], SettingsError | None]) -> None:
        """Look at one flow's topic; `problem` judges for how many milliseconds it keeps records."""
        try:
            await self._look_for_transactions(topic)
        except (NotFoundError, StorageError) as error:
            if isinstance(error, NotFoundError) or _is_refused(error):
                report_error(self._dependencies, f"topic of {topic}", error)
            return  # a cluster that is away is reported by its own requests
        self._dependencies.clear(f"topic of {topic}")
        await self._look_at_settings(topic, problem)

    def look_at_clock(self) -> None:
        """Compare the machine's clock with the log's time."""
        skew_ms = self._log_time.skew_ms(self._own.now_ms())
        self._put("clock_skew_seconds", skew_ms / 1_000)
        if abs(skew_ms) < SKEW_MAX_MS:
            self._dependencies.clear(CLOCK)
            return
        side = "ahead of" if skew_ms > 0 else "behind"
        self._dependencies.report(
            CLOCK,
            f"this machine's clock is {abs(skew_ms) / 1_000:.1f} s {side} that of the brokers; deadlines follow theirs",
            "Set the clocks by NTP, this machine's and the brokers'.",
        )

    async def _look_for_transactions(self, topic: str) -> None:
        partitions = range(await self._cluster.partitions(topic))
        stable = await self._cluster.stable_ends(topic, partitions)
        asked_ms = self._log_time.elapsed_ms()
        ends = await self._cluster.ends(topic, partitions)
        now_ms = self._log_time.elapsed_ms()
        for number in partitions:
            self._log_time.ended(SeenEnd(topic, number, ends[number], asked_ms))
        for number in partitions:
            before = self._held.pop((topic, number), None)
            if ends[number] > stable[number]:
                is_same = before is not None and before.stable == stable[number]
                since_ms = before.since_ms if before is not None and is_same else now_ms
                held = _Held(topic, number, stable[number], ends[number] - stable[number], since_ms)
                self._held[topic, number] = held
        self._report(topic, now_ms)

    def _report(self, topic: str, now_ms: int) -> None:
        open_long = [held for held in self._held.values() if now_ms - held.since_ms >= OPEN_MS]
        self._put("open_transaction_records", sum(held.records for held in open_long))
        here = [held for held in open_long if held.topic == topic]
        if not here:
            self._dependencies.clear(f"transactions on {topic}")
            return
        oldest = min(here, key=lambda held: held.since_ms)
        places = ", ".join(f"{held.records} from offset {held.stable} of partition {held.partition}" for held in here)
        place = f"--topic {self._cluster.name(topic)} --partition {oldest.partition} --start-offset {oldest.stable}"
        self._dependencies.report(
            f"transactions on {topic}",
            f"a producer's transaction has been open for {(now_ms - oldest.since_ms) / 1_000:.0f} s and holds back "
            f"what stands behind its first record: {places}",
            f"End it, or abort it: kafka-transactions.sh abort {place}; the broker does so after the producer's "
            "transaction.timeout.ms.",
        )

    async def _look_at_settings(self, topic: str, problem: Callable[[int], SettingsError | None]) -> None:
        try:
            found = problem(await self._cluster.kept_ms(topic))
        except SettingsError as error:
            found = error
        except (StorageError, NotFoundError):  # the start reports a missing right, `look` a missing topic
            return
        if found is not None:
            report_error(self._dependencies, f"settings of {topic}", found)
        else:
            self._dependencies.clear(f"settings of {topic}")


def _is_refused(error: StorageError) -> bool:
    cause = cause_of(error.__cause__)
    return cause is not None and cause.code() in UNAUTHORIZED
