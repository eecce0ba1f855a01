"""A broker, a Redis and every process of the reference flow, as they are deployed; a dead process is started again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.demo import Demo
from tests.audit.from_kafka import Inboxes
from tests.chaos.groups import Groups
from tests.chaos.observer import PROJECTOR
from tests.support import required
from tests.support.fleet import FLOWS, ROOT, SERVICES, TRACKER, Fleet, Worker
from tests.support.kafka import Broker, free_ports
from tests.support.redis_server import OwnRedis

PREFIX = "chaos-"
TOPIC = f"{PREFIX}order"
LETTERS = f"{TOPIC}.dead-letters"
PARTITIONS = 8
REST = "rest"
TIME_SCALE = 2_400
"""A day's wait for the warehouse takes 36 s, the flow's deadline of two days 72: longer than an outage and its end.
Undo and step deadlines are 35 s here (a floor of 30 s is never divided)."""
SLOTS = (*(f"{role}-{number}" for role in (*SERVICES, TRACKER) for number in (1, 2)), f"{PROJECTOR}-1", f"{REST}-1")
"""Every process by its role and a number."""


@dataclass
class World:
    """The parts of a run: servers, processes by their slots, and their observers."""

    folder: Path
    broker: Broker
    redis: OwnRedis
    settings: Mapping[str, str]
    fleet: Fleet
    groups: Groups
    workers: dict[str, Worker]
    door: str
    """Where the REST view answers."""

    @property
    def books(self) -> Path:
        """Return the gateways' books."""
        return self.folder / "books"

    def inboxes(self) -> Inboxes:
        """Return the services' inboxes, by a client of their own."""
        return Inboxes(self.redis.url, f"choreo:{PREFIX}")

    def start(self, slot: str) -> Worker:
        """Start the process of a slot; a tracker finds its own folder again."""
        role = role_of(slot)
        self.workers[slot] = self.fleet.start(role, CHOREO_DATA=str(self.folder / "data" / slot))
        return self.workers[slot]

    def run(self, *arguments: str, **settings: str) -> None:
        """Run the command that a person would use; `settings` are added to the installation's."""
        done = subprocess.run(
            [sys.executable, "-m", "choreo", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.settings, **settings},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"choreo {' '.join(arguments)}: {done.stderr.decode()}"


def role_of(slot: str) -> str:
    """Return the role of a process."""
    return slot.rpartition("-")[0]


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Yield running servers, topics, books with stock; no process yet. Leave nothing behind."""
    for name in ("redis", "output", "data"):
        (folder / name).mkdir()
    redis = OwnRedis(folder / "redis")
    redis.start()
    try:
        with required.broker(folder / "kafka") as broker:
            (port,) = free_ports(1)
            settings = {
                "CHOREO_FLOWS": FLOWS,
                "CHOREO_KAFKA": broker.bootstrap,
                "CHOREO_KAFKA_TOPIC_PREFIX": PREFIX,
                "CHOREO_REDIS": redis.url,
                "CHOREO_BOOKS_DIR": str(folder / "books"),
                "CHOREO_DATA": str(folder / "data" / "none"),
                "CHOREO_TIME_SCALE": str(TIME_SCALE),
                "CHOREO_PORT": str(port),
            }
            names = {role: PREFIX + role for role in (*SERVICES, PROJECTOR)}
            names[TRACKER] = f"{PREFIX}choreo-order-tracker"
            groups = Groups(broker.bootstrap, TOPIC, PARTITIONS, names)
            fleet = Fleet(folder / "output", settings)
            world = World(folder, broker, redis, settings, fleet, groups, {}, f"http://127.0.0.1:{port}")
            world.run("topics", "apply")
            Demo().prepare(world.books)
            try:
                yield world
            finally:
                fleet.kill_all()
    finally:
        redis.stop()
