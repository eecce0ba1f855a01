"""Follows the log while the faults fall, and reports the work that each kill interrupted: by plain clients only."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition
from redis.exceptions import RedisError

from tests.audit.from_kafka import Inboxes, fact_of
from tests.audit.order import CANCELLED, FAILURES, START, STEPS, SUCCESSES, TOLD
from tests.audit.reading import Fact
from tests.audit.shape import ENDS, GENERAL_FAILURES
from tests.chaos.groups import Groups
from tests.support.fleet import SERVICES, TRACKER, Worker

PROJECTOR = "projector"
RECENT = 2_000
"""Messages kept to be published again: the last half minute or so, far less than a closed run's `linger`."""
_TRIGGERS = {type_: name for name, step in STEPS.items() for type_ in step.on} | {
    CANCELLED: "notification.tell_customer"
}
_OUTCOMES = {**SUCCESSES, **FAILURES, TOLD: "notification.tell_customer"}
_REQUEST = "choreo.CompensationRequested"
_IGNORED = "choreo.TriggerIgnored"
_OWNS = re.compile(r"owns partitions \[([^\]]*)\]")

Attempt = tuple[str, str]
"""The id of a trigger, and the step."""


@dataclass(frozen=True)
class Caught:
    """The work that a kill interrupted."""

    attempts: frozenset[Attempt] = frozenset()
    """Attempts that had begun and have no outcome."""
    unread: int = 0
    """Records that stood in its partitions and were to be worked by it."""

    @property
    def in_flight(self) -> bool:
        """Return whether there was anything to lose."""
        return bool(self.attempts or self.unread)


class Observer:
    """Reads every record once, in a task of its own."""

    def __init__(self, bootstrap: str, topic: str, groups: Groups, inboxes: Inboxes) -> None:
        """Start with nothing read."""
        self.records = 0
        self.ends: dict[int, int] = {}
        """How far each partition was read, as the next offset."""
        self.recent: deque[tuple[Message, Fact]] = deque(maxlen=RECENT)
        self.open_runs: set[str] = set()
        self.starts: Counter[str] = Counter()
        """How many runs each key has had."""
        self.runs: dict[str, str] = {}
        """The run of every event, by its id."""
        self.triggers: set[Attempt] = set()
        self.interrupted: set[Attempt] = set()
        self.listeners: list[Callable[[Fact], None]] = []
        """Called with every fact that is no duplicate."""
        self._topic = topic
        self._groups = groups
        self._inboxes = inboxes
        self._seen: set[tuple[str, str]] = set()
        self._noting = threading.Lock()
        """Held while a fact is noted, and while another thread copies the notes."""
        self._waiting: dict[Attempt, Fact] = {}
        self._requests: dict[str, Fact] = {}
        """Undo requests that nobody has answered, by their entry."""
        self._begun: dict[Attempt, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "observer",
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )

    async def follow(self, stop: asyncio.Event) -> None:
        """Read until `stop`; a broker that is away is waited for."""
        self._consumer.assign([TopicPartition(self._topic, number, 0) for number in self._groups.partitions])
        try:
            while not stop.is_set():
                for message in await asyncio.to_thread(self._consumer.consume, 500, 0.1):
                    if message.error() is None:
                        self._read(message)
        finally:
            self._consumer.close()

    def has_read(self, ends: Mapping[int, int]) -> bool:
        """Return whether it knows the log up to these ends."""
        return all(self.ends.get(number, 0) >= end for number, end in ends.items())

    def undo_waits_s(self) -> float:
        """Return how long the oldest request to undo that nobody has answered has been waiting."""
        with self._noting:
            waiting = [fact.stamp_ms for fact in self._requests.values() if fact.run in self.open_runs]
        oldest_ms = min(waiting, default=0)
        return time.time() - oldest_ms / 1_000 if oldest_ms else 0

    def history(self, run: str) -> list[Fact]:
        """Return the recent facts of a run."""
        with self._noting:
            return [fact for _, fact in self.recent if run in (fact.id, fact.run)]

    def owned(self, worker: Worker) -> frozenset[int]:
        """Return the partitions it has; of a tracker by its own words, for Faust's consumers all have one name."""
        if worker.role == TRACKER:
            said = _OWNS.findall(worker.output.read_text(errors="replace"))
            return frozenset(map(int, said[-1].split(","))) if said and said[-1] else frozenset()
        consumers = self._groups.owned(worker.role)
        shares = [share for client, share in consumers.items() if client.startswith(worker.consumer)]
        return frozenset().union(*shares)

    def caught(self, role: str, partitions: frozenset[int]) -> Caught:
        """Return the work, begun or due, of a process of this role in these partitions."""
        committed = self._groups.committed(role)
        if role not in SERVICES:
            return Caught(unread=sum(max(0, self.ends.get(number, 0) - committed[number]) for number in partitions))
        with self._noting:
            there = {
                place: fact
                for place, fact in self._waiting.items()
                if place[1].startswith(f"{role}.") and fact.partition in partitions
            }
        running = {place: begun for place, (begun, recorded) in self._rows(there).items() if begun and not recorded}
        fresh = frozenset(place for place, begun in running.items() if self._begun.get(place) != begun)
        unread = sum(fact.offset >= committed[fact.partition] for fact in there.values())
        return Caught(fresh, unread)

    def killed(self, caught: Caught) -> None:
        """Remember interrupted attempts: each may begin once more."""
        self.interrupted |= caught.attempts
        for place, (begun, _) in self._rows(caught.attempts).items():
            self._begun[place] = begun

    def look(self) -> None:
        """Note how many attempts the inboxes have counted, before they forget."""
        with self._noting:
            places = sorted(self.triggers)
        for start in range(0, len(places), 1_000):
            self._inboxes.rows(places[start : start + 1_000])

    def _rows(self, places: object) -> dict[Attempt, tuple[int, bool]]:
        wanted: list[Attempt] = list(places)  # type: ignore[call-overload]
        try:
            return self._inboxes.rows(wanted) if wanted else {}
        except RedisError:
            return {}

    def _read(self, message: Message) -> None:
        fact = fact_of(message)
        with self._noting:
            self.records += 1
            self.ends[fact.partition] = fact.offset + 1
            self.recent.append((message, fact))
            if (fact.id, fact.type) in self._seen or not fact.key:
                return
            self._seen.add((fact.id, fact.type))
            self.runs.setdefault(fact.id, fact.id if fact.type == START else fact.run)
            self._note_run(fact)
            self._note_work(fact)
        for tell in self.listeners:
            tell(fact)

    def _note_run(self, fact: Fact) -> None:
        if fact.type == START:
            self.open_runs.add(fact.id)
            self.starts[fact.key] += 1
        if fact.type in ENDS:
            self.open_runs.discard(fact.run)
        if fact.type == _REQUEST:
            self._requests[fact.entry] = fact
        elif fact.entry and fact.type not in ("choreo.StepAttemptFailed", "choreo.StepRetryDue"):
            self._requests.pop(fact.entry, None)

    def _note_work(self, fact: Fact) -> None:
        """Note the work that a fact asks for, and the work that it ends."""
        step = fact.step if fact.type == _REQUEST else _TRIGGERS.get(fact.type, "")
        if step:
            self._waiting[fact.id, step] = fact
            self.triggers.add((fact.id, step))
        done = _OUTCOMES.get(fact.type) or fact.step
        if fact.type in _OUTCOMES or fact.type in (*GENERAL_FAILURES, _IGNORED) or fact.entry:
            self._waiting.pop((fact.causation, done), None)
