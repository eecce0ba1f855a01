"""The bridge as a loop: poll one flow's log, publish by rules in other logs, commit once they have acknowledged.

A crash between the two publishes again, with the same ids. A record that no rule can use is a dead letter. While
another log does not answer, the bridge keeps its partitions and the records it has, reads no more, and tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.app.dead_letter import dead_letter_of
from choreo.app.dependencies import DependencyReports
from choreo.app.limits import check_size
from choreo.app.metrics import Metrics
from choreo.app.steps.admission import in_place
from choreo.app.steps.log_lookup import records_at
from choreo.core import facts
from choreo.core.backoff import Backoff
from choreo.core.bridge import Rule
from choreo.core.errors import (
    ConflictError,
    LeaseLostError,
    NotFoundError,
    SchemaError,
    StorageError,
    UnavailableError,
    described,
)
from choreo.core.events import Envelope, Position, Record
from choreo.core.identity import identified
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import BRIDGE_GROUP, CommitBatch, Consumer, Log, Poll

_log = logging.getLogger(__name__)

POLL_SIZE = 500
"""Records a poll: as a step host's, some 10 ms of work and one request to each other log."""
IDLE_S = 1.0
"""The longest wait of a poll, which the first record ends: a process has one of these loops for each flow."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Delays while a log fails: doubling, and shorter than a third of a lease, so that each poll between them renews it."""

_PASSES = (StorageError, UnavailableError, NotFoundError)
"""Errors of a log, a registry or a missing topic: the bridge waits until they pass."""


class _Said(NamedTuple):
    """An event to publish, the record that it is of, and the rule."""

    event: Envelope
    record: Record
    rule: Rule


class BridgeHost:
    """One bridge out of the log of one flow. Several share its partitions through their group."""

    def __init__(
        self,
        flow: str,
        rules: Sequence[Rule],
        log: Log,
        clock: Clock,
        *,
        name: str,
        metrics: Metrics | None = None,
        dependencies: Dependencies | None = None,
        poll_size: int = POLL_SIZE,
        idle_s: float = IDLE_S,
    ) -> None:
        """Give each bridge a unique `name`."""
        self.flow = flow
        self.name = name
        self.metrics: Metrics = metrics or Metrics()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self.polled_ms: int = 0
        """When it last polled, or reported the reason why it waits."""
        self._rules: Mapping[str, Rule] = {rule.name: rule for rule in rules}
        self._types = frozenset({facts.REDRIVEN}.union(*(rule.types for rule in rules)))
        self._role = f"bridge of {flow}"
        self._log = log
        self._clock = clock
        self._poll_size = poll_size
        self._idle_s = idle_s
        self._partitions = 0
        self._owned = set[int]()
        self._held = set[int]()
        self._records: list[Record] = []
        """Records that are read, and not known to be published and committed."""
        self._reached: dict[int, int] = {}
        self._stopping = False

    async def run(self) -> None:
        """Work until `stop`; wait for a log that fails."""
        consumer: Consumer | None = None
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
        try:
            while not self._stopping:
                try:
                    consumer = consumer or await self._join()
                    await self._take(consumer, 0 if self._records else self._idle_s)
                    await self._work(consumer)
                    self._hold(consumer, hold=False)
                    backoff.reset()
                    self.dependencies.clear(self._role)
                except LeaseLostError as error:
                    _log.info("bridge %s: %s", self.name, error)
                    lost, consumer = consumer, None
                    self._forget()
                    if lost is not None:
                        await lost.close()
                except _PASSES as error:
                    report_error(self.dependencies, self._role, error)
                    self.polled_ms = self._clock.now_ms()
                    self.metrics.add("storage_errors", 1)
                    if consumer is not None:
                        self._hold(consumer, hold=True)
                    await self._clock.sleep(backoff.next_s())
        finally:
            if consumer is not None:
                await consumer.close()

    async def stop(self) -> None:
        """Let `run` end after the present batch."""
        self._stopping = True

    async def _join(self) -> Consumer:
        self._partitions = await self._log.partitions(self.flow)
        return await self._log.consumer(self.flow, BRIDGE_GROUP, self.name, self._types)

    async def _take(self, consumer: Consumer, wait_s: float) -> None:
        """Poll once, and keep the records."""
        poll: Poll = await consumer.poll(self._poll_size, wait_s)
        self.polled_ms = self._clock.now_ms()
        if poll.revoked:
            gone = set(poll.revoked)
            self._owned -= gone
            self._held -= gone
            self._records = [record for record in self._records if record.partition not in gone]
            self._reached = {number: offset for number, offset in self._reached.items() if number not in gone}
        self._owned.update(assigned.partition for assigned in poll.assigned)
        self._records += poll.records
        self._reached.update((number, offset) for number, offset in poll.read.items() if number in self._owned)

    async def _work(self, consumer: Consumer) -> None:
        """Publish the events of the records, then commit; a failure leaves all of them for the next time."""
        said: dict[str, list[_Said]] = {}
        dead_letters: list[DeadLetter] = []
        applied = await self._applied()
        referred = await self._at([_referred(rule, about) for rule, about in applied])
        for rule, about in applied:
            try:
                for event in await self._said(rule, about, referred.get(_referred(rule, about))):
                    said.setdefault(event.flow, []).append(_Said(event, about, rule))
            except _PASSES:
                raise
            except Exception as error:  # noqa: BLE001 - one event or function may raise anything; others go on
                dead_letters.append(self._dead_letter(about, rule, described(error)))
        for topic, events in said.items():
            dead_letters += await self._publish(topic, events)
        if self._reached:
            await consumer.commit(CommitBatch(done=dict(self._reached), dead_letters=dead_letters))
        if dead_letters:
            _log.warning(
                "bridge of %s: %d dead letters, such as: %s", self.flow, len(dead_letters), dead_letters[0].cause
            )
        self.metrics.add("bridge_events", sum(map(len, said.values())))
        self.metrics.add("dead_letters_written", len(dead_letters))
        self._records, self._reached = [], {}

    async def _applied(self) -> list[tuple[Rule, Record]]:
        """Return the rules for the records, each with the record that it is about: of a redrive the dead one.

        A record in a wrong partition is left out: the tracker publishes it again, where it belongs or when it is due.
        """
        records = [record for record in self._records if in_place(record, self._partitions)]
        redriven = await self._at([_redriven(record) for record in records if record.event.type == facts.REDRIVEN])
        applied: list[tuple[Rule, Record]] = []
        for record in records:
            event = record.event
            if event.type != facts.REDRIVEN:
                about = replace(record, event=identified(record))
                applied += [(rule, about) for rule in self._rules.values() if event.type in rule.types]
            elif rule := self._rules.get(event.step):  # else it is another host's
                found = redriven.get(_redriven(record))
                if found is None:
                    _log.warning(
                        "bridge of %s: the record of a redrive is no longer in the log: %s", self.flow, event.outcome
                    )
                else:
                    applied.append((rule, replace(found, event=identified(found))))
        return applied

    async def _at(self, places: Sequence[Position]) -> dict[Position, Record]:
        """Return the records at these positions; one that is gone, or an offset of -1, is absent."""
        places = [place for place in places if place.offset >= 0]
        return await records_at(self._log, places) if places else {}

    async def _said(self, rule: Rule, record: Record, referred: Record | None) -> Sequence[Envelope]:
        """Return the rule's events for a record; raises SchemaError where one does not fit into its log."""
        said = rule.say(record.event, referred.event if referred else None)
        for event in said:
            bytes_max = await self._log.bytes_max(event.flow)
            if bytes_max:
                check_size(event, bytes_max, f"flow {event.flow}")
        return said

    async def _publish(self, topic: str, events: Sequence[_Said]) -> list[DeadLetter]:
        """Publish in order; return a dead letter for each event that the log refuses for good."""
        try:
            await self._log.append(topic, [each.event for each in events])
        except (ConflictError, SchemaError) as error:
            if len(events) == 1:
                return [self._dead_letter(events[0].record, events[0].rule, error.sentence)]
            refused = []
            for each in events:
                refused += await self._publish(topic, [each])
            return refused
        return []

    def _dead_letter(self, record: Record, rule: Rule, cause: str) -> DeadLetter:
        return dead_letter_of(record, BRIDGE_GROUP, rule.name, cause, self._clock.now_ms(), made_by=rule.name)

    def _hold(self, consumer: Consumer, *, hold: bool) -> None:
        """Pause every partition while records wait for another log; resume them afterwards."""
        changed = self._owned - self._held if hold else set(self._held)
        if changed:
            (consumer.pause if hold else consumer.resume)(sorted(changed))
            self._held = set(self._owned) if hold else set()

    def _forget(self) -> None:
        self._owned.clear()
        self._held.clear()
        self._records, self._reached = [], {}


def _redriven(call: Record) -> Position:
    """Return the position of the record that is to be tried again."""
    return Position(call.topic, call.partition, call.event.outcome)


def _referred(rule: Rule, record: Record) -> Position:
    """Return the position of another record that the rule needs; its offset is -1 where it needs none."""
    return Position(record.topic, record.partition, rule.refers(record.event))
