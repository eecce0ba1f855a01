"""The servers of the benchmarks on Kafka: one broker and one Redis of their own, and processes with settings for them.

A broker that is there already is named by its address; its CPU time is then not known. Each part of a benchmark has
topics and keys under a prefix of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.saga import order
from choreo.settings import load
from choreo.wiring import open_app
from tests.support.kafka import Broker
from tests.support.redis_server import MISSING, OwnRedis

FLOW = order.name
PARTITIONS = 8
STOP_S = 30
_TOPIC = """name: {flow}
key: order_id
partitions: {partitions}
retention: forever
owner: bench
events: [{events}]
dead_letters: {{name: {flow}.dead-letters, partitions: 1, retention: forever}}
"""


class Harness(NamedTuple):
    """Servers that answer, and a folder."""

    bootstrap: str
    redis: str
    folder: Path
    mark: str
    """Unique to this run, on a broker that has seen others."""
    servers: dict[str, int]
    """Process ids by name, of those that were started here."""
    flows: str = "bench.saga:order"
    """Environment of choreo's processes."""

    def own(self, part: str) -> str:
        """The prefix of the topics of this part of the run."""
        return f"bench-{self.mark}-{part}-"

    def environment(self, prefix: str) -> dict[str, str]:
        """The environment of a process of choreo whose topics begin with this prefix, and nothing of the user's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("CHOREO_")}
        return {
            **own,
            "CHOREO_FLOWS": self.flows,
            "CHOREO_KAFKA": self.bootstrap,
            "CHOREO_KAFKA_TOPIC_PREFIX": prefix,
            "CHOREO_REDIS": self.redis,
            "CHOREO_DATA": str(self.folder / prefix),
            "CHOREO_SCHEMAS": str(self.folder / "schemas"),
            "CHOREO_TOPICS": str(self.folder / "topics"),
        }

    def prepare(self, prefix: str) -> None:
        """Make the topics of this prefix."""
        self.run_module(prefix, "bench.kafka_harness")

    def start(self, prefix: str, *command: str) -> subprocess.Popen[str]:
        """A Python process that prints what it has to say."""
        # A benchmark that is killed leaves nothing at work, where util-linux has this.
        guard = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        arguments = [*guard, sys.executable, *command]
        return subprocess.Popen(arguments, env=self.environment(prefix), stdout=subprocess.PIPE, text=True)

    def run_module(self, prefix: str, module: str, *arguments: str, stdin: str = "") -> str:
        """Run a module to its end and return its output."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, env=self.environment(prefix), input=stdin, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def figures(self, prefix: str, module: str, *arguments: str) -> dict[str, Any]:
        """The JSON that a module prints as its last line."""
        figures: dict[str, Any] = json.loads(self.run_module(prefix, module, *arguments).splitlines()[-1])
        return figures

    @contextmanager
    def running(self, prefix: str, commands: dict[str, Sequence[str]]) -> Iterator[dict[str, subprocess.Popen[str]]]:
        """These processes at work, by name; ended by SIGTERM."""
        started: dict[str, subprocess.Popen[str]] = {}
        try:
            for name, command in commands.items():
                started[name] = self.start(prefix, *command)
            yield started
        finally:
            stop(*started.values())


def stop(*processes: subprocess.Popen[str]) -> None:
    """End them in order; kill who does not end."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@contextmanager
def harness(bootstrap: str = "") -> Iterator[Harness]:
    """Servers for one run: a broker unless one is named, and a Redis."""
    if not shutil.which("redis-server"):
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        folder = Path(name)
        (folder / "topics").mkdir()
        events = ", ".join(sorted(order.event_classes))
        text = _TOPIC.format(flow=FLOW, partitions=PARTITIONS, events=events)
        (folder / "topics" / f"{FLOW}.yaml").write_text(text)
        (folder / "redis").mkdir()
        redis = OwnRedis(folder / "redis")
        broker = None if bootstrap else Broker(folder / "kafka")
        try:
            # As it is run in production: what was acknowledged is in its file once a second.
            redis.start()
            servers = {"redis": redis.pid}
            if broker is not None:
                broker.start()
                servers["broker"] = broker.pid
            yield Harness(broker.bootstrap if broker else bootstrap, redis.url, folder, uuid.uuid4().hex[:8], servers)
        finally:
            redis.stop()
            if broker is not None:
                broker.stop()


async def _make_topics() -> None:
    async with open_app(load()) as app:
        await app.backend.create_topics()


if __name__ == "__main__":
    asyncio.run(_make_topics())
