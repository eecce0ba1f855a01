"""Trips beside the orders: an installation of its own on the same servers, killed like them, audited by declaration.

A process runs the whole travel flow; people and an operator speak to its REST view. Logs are read by a
plain consumer.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from choreo import Event, Flow
from services.travel.demo import TravelDemo
from services.travel.ticket_flow import ticket
from services.travel.trip_flow import trip
from tests.audit import from_kafka, joins
from tests.audit.auditor import by_run, judge_log
from tests.audit.from_kafka import fact_of
from tests.audit.reading import Evidence, Fact
from tests.audit.shape import ENDS, Shape, Told, shape_of
from tests.chaos.world import PREFIX, TIME_SCALE, World
from tests.support.durations import durations_of
from tests.support.fleet import EVERYTHING, Worker
from tests.support.kafka import free_ports

TRIPS_PREFIX = f"{PREFIX}trips-"
FLOWS: tuple[Flow, ...] = (trip, ticket)
PROCESSES = 1
PARTITIONS = 8
AGAIN_S = 0.2
OPERATOR_S = 3.0
_ACCEPTED = (200, 201, 202)
_UNWRITTEN = "states were not written"


class Trips:
    """The trips of a run, and the people around them."""

    def __init__(self, world: World) -> None:
        """Make topics and books; no process yet."""
        self.acknowledged: dict[str, str] = {}
        """Id → key of every start that was acknowledged."""
        self.open_runs: set[str] = set()
        self.placing: list[asyncio.Task[Any]] = []
        """Requests of customers and managers."""
        self.restarted = 0
        """Processes that ended because a state could not be written, as they must."""
        self._world = world
        self._demo = TravelDemo()
        self._demo.prepare(world.books)
        self._orders = iter(self._demo.orders(10_000))
        self._ports = free_ports(PROCESSES)
        self._workers: dict[int, Worker] = {}
        self._client = httpx.AsyncClient(timeout=30.0)
        self._seen: set[tuple[str, str, str]] = set()
        self._settings = {
            "CHOREO_FLOWS": ",".join(TravelDemo.flows),
            "CHOREO_KAFKA_TOPIC_PREFIX": TRIPS_PREFIX,
        }
        world.run("topics", "apply", **self._settings)

    def start(self, number: int) -> None:
        """Start a process of the whole flow; its tracker finds its own folder again."""
        data = str(self._world.folder / "data" / f"trips-{number}")
        port = str(self._ports[number])
        self._workers[number] = self._world.fleet.start(
            EVERYTHING, **self._settings, CHOREO_DATA=data, CHOREO_PORT=port
        )

    def kill(self, number: int) -> None:
        """Kill a process and start it again."""
        self._world.fleet.kill(self._workers.pop(number))
        self.start(number)

    def place(self, number: int) -> None:
        """Let customers ask for so many more trips meanwhile."""
        for _ in range(number):
            self.placing.append(asyncio.create_task(self._place(next(self._orders))))

    async def live(self) -> None:
        """Follow both logs and answer what is asked, until cancelled; a process that ends by itself is a failure."""
        for number in range(PROCESSES):
            self.start(number)
        consumer = Consumer(
            {
                "bootstrap.servers": self._world.broker.bootstrap,
                "group.id": "trips",
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )
        names = [f"{TRIPS_PREFIX}{flow.name}" for flow in FLOWS]
        consumer.assign([TopicPartition(name, number, 0) for name in names for number in range(PARTITIONS)])
        try:
            while True:
                for message in await asyncio.to_thread(consumer.consume, 500, 0.1):
                    if message.error() is None:
                        self._hear(message)
                self._supervise()
                for task in self.placing:
                    if task.done():
                        task.result()
        finally:
            consumer.close()

    async def operate(self) -> None:
        """Retry the failed compensations of each stuck run, until cancelled."""
        while True:
            for flow in FLOWS:
                with suppress(httpx.HTTPError):
                    path = f"{self._door(0)}/flows/{flow.name}/instances"
                    listed = await self._client.get(path, params={"status": "stuck", "limit": 200})
                    for row in listed.json()["items"] if listed.status_code in _ACCEPTED else ():
                        await self._retry(f"{path}/{row['key']}", row["run"])
            await _pause(OPERATOR_S)

    def have_ended(self) -> bool:
        """Return whether every request is acknowledged, and every run has ended and is shown as ended."""
        if not all(task.done() for task in self.placing) or self.open_runs:
            return False
        with suppress(OSError):
            shown = [from_kafka.shown(self._door(0), flow.name) for flow in FLOWS]
            statuses = [status for statuses in shown for status in statuses.values()]
            return shown[0].keys() >= self.acknowledged.keys() and set(statuses) <= set(ENDS.values())
        return False

    async def close(self) -> None:
        """Cancel all tasks and close the connections."""
        for task in self.placing:
            task.cancel()
        await asyncio.gather(*self.placing, return_exceptions=True)
        await self._client.aclose()

    def findings(self) -> list[str]:
        """Return the auditor's findings, when all is quiet: logs, children, and the books."""
        found: list[str] = []
        shapes: dict[str, Shape] = {}
        runs: dict[str, dict[str, list[Fact]]] = {}
        ends: dict[str, str] = {}
        for flow in FLOWS:
            shapes[flow.name] = shape_of(json.loads(msgspec.json.encode(flow.definition)))
            log = from_kafka.facts(self._world.broker.bootstrap, f"{TRIPS_PREFIX}{flow.name}")
            evidence = Evidence(log, [], from_kafka.shown(self._door(0), flow.name), [])
            acknowledged = self.acknowledged if flow is trip else {}
            told = Told(acknowledged, durations=durations_of(flow.definition.scaled(TIME_SCALE)))
            report = judge_log(evidence, shapes[flow.name], told)
            found += report.violations
            ends |= report.outcomes
            runs[flow.name] = by_run(log, shapes[flow.name])
        assert runs["ticket"], "no trip came to its tickets: that proves nothing"
        found += joins.of_children(shapes["trip"], runs["trip"], runs["ticket"], ends)
        first: dict[str, str] = {}
        for run, facts in runs["trip"].items():
            first.setdefault(facts[0].key, ends[run])
        return [*found, *self._demo.audit(self._world.books, first)]

    def _hear(self, message: Message) -> None:
        fact = fact_of(message)
        if (fact.id, fact.type, fact.run) in self._seen:
            return
        self._seen.add((fact.id, fact.type, fact.run))
        if fact.type in [flow.definition.starts for flow in FLOWS]:
            self.open_runs.add(fact.id)
        if fact.type == "choreo.ParentTurned":
            self.open_runs.add(fact.run)
        if fact.type in ENDS:
            self.open_runs.discard(fact.run)
        if fact.type in self._demo.listens:
            answer = self._demo.answer(fact.key, fact.type)
            if isinstance(answer, Event):
                self.placing.append(asyncio.create_task(self._publish(answer, fact.id)))

    def _supervise(self) -> None:
        for number, worker in list(self._workers.items()):
            if worker.process.poll() is None:
                continue
            assert _UNWRITTEN in worker.last_words, worker.last_words
            self._world.fleet.workers.remove(worker)
            self.restarted += 1
            self.start(number)

    async def _place(self, placed: Any) -> None:
        for attempt in ("first", "again")[: 1 + placed.kind.started_twice]:
            receipt = await self._publish(placed.event, f"{placed.event.trip_id}-{attempt}")
            self.acknowledged[receipt["id"]] = receipt["key"]

    async def _publish(self, event: Event, idempotency_key: str) -> Any:
        """Post until it is acknowledged, to one process after the other."""
        body = {"type": event.event_type, "fields": event.model_dump(mode="json")}
        headers = {"Idempotency-Key": idempotency_key}
        turn = 0
        while True:
            turn += 1
            path = f"{self._door(turn)}/flows/trip/events?allow_early=true"
            with suppress(httpx.TransportError):
                answer = await self._client.post(path, json=body, headers=headers)
                if answer.status_code in _ACCEPTED:
                    return answer.json()
                assert answer.status_code >= 500, answer.text
            await _pause(AGAIN_S)

    async def _retry(self, path: str, run: str) -> None:
        seen = await self._client.get(path, params={"run": run})
        for effect in seen.json()["ledger"] if seen.status_code in _ACCEPTED else ():
            if effect["state"] == "failed":
                again = f"{path}/compensations/{effect['entry']}/retry"
                await self._client.post(again, params={"run": run}, json={"reason": "it was away"})

    def _door(self, turn: int) -> str:
        return f"http://127.0.0.1:{self._ports[turn % PROCESSES]}"


async def _pause(seconds: float) -> None:
    """Wait as a person does before the next request."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
