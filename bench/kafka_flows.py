"""Many flows in one project on Kafka: `python -m bench.kafka_flows [--json] [--flows N] [--partitions N]`.

Each role is a process of its own that serves every flow. It is ready when it has worked the event that waits for it in
each flow; then nothing comes any more, and its CPU time, threads and descriptors are those of an idle role.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import many_flows
from bench.figures import cpu_s, rounded, say
from bench.kafka_harness import Harness, harness, stop
from choreo.core.errors import StorageError
from choreo.settings import load
from choreo.wiring import PROJECTOR, TRACKER, App, open_app, run

READY = "ready"
LOOK_S = 0.05
PATIENCE_S = 120.0
SETTLE_S = 5.0
"""After which nothing of the start is left: what was read is committed, readers are put to rest."""
IDLE_S = 20.0
"""How long an idle role is measured: twice as long as anything in it rests."""
ROLES = {TRACKER: "tracker_events", PROJECTOR: "projector_events", many_flows.work.name: "jobs"}
"""Each with the counter of events that it has worked."""
_TOPIC = """name: {flow}
key: task_id
partitions: {partitions}
retention: forever
owner: bench
events: [TaskGiven, TaskDone]
dead_letters: {{name: {flow}.dead-letters, partitions: 1, retention: forever}}
"""


async def prepare() -> None:
    """Make the topics, and publish one event in each flow."""
    async with open_app(load()) as app:
        await app.backend.create_topics()
        for flow in app.flows.values():
            await _published(app, flow.name)


async def _published(app: App, flow: str) -> None:
    """Publish the event that waits in a flow; a broker that has just been started makes its own topics first."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            await app.publisher.publish(flow, many_flows.TaskGiven(task_id="first"))
        except StorageError:
            if time.monotonic() > until:
                raise
        else:
            return


async def live(role: str) -> None:
    """Run a role until the process is ended; says when it has worked an event of each flow."""
    async with open_app(load()) as app:
        task = asyncio.create_task(run(app, [role], asyncio.Event()))
        until = time.monotonic() + PATIENCE_S
        while _worked(app, role) < len(app.flows):
            await asyncio.sleep(LOOK_S)
            if task.done() or time.monotonic() > until:
                sys.exit(f"{role}: {app.metrics.read()}")
        print(READY, flush=True)
        await task


def _worked(app: App, role: str) -> float:
    return app.metrics.read().get(ROLES[role], 0)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    os.environ[many_flows.COUNT] = str(chosen.flows)
    names = [many_flows.name(number) for number in range(chosen.flows)]
    with harness(chosen.bootstrap) as servers:
        for name in names:
            text = _TOPIC.format(flow=name, partitions=chosen.partitions)
            (servers.folder / "topics" / f"{name}.yaml").write_text(text)
        prefix = servers.own("flows")
        flows = ",".join(f"bench.many_flows:{name}" for name in names)
        own = servers._replace(flows=flows)
        own.run_module(prefix, "bench.kafka_flows", "--prepare")
        started: dict[str, subprocess.Popen[str]] = {}
        try:
            ready = {role: _ready(own, prefix, role, started) for role in chosen.roles}
            time.sleep(SETTLE_S)
            idle = _idle({**{role: process.pid for role, process in started.items()}, **servers.servers}, chosen)
        finally:
            stop(*started.values())
    return {
        "flows": chosen.flows,
        "partitions": chosen.partitions,
        **{role: {"ready_s": rounded(ready[role]), **idle[role]} for role in chosen.roles},
        **{name: idle[name] for name in servers.servers},
    }


def _ready(servers: Harness, prefix: str, role: str, started: dict[str, subprocess.Popen[str]]) -> float:
    begun_s = time.perf_counter()
    started[role] = servers.start(prefix, "-m", "bench.kafka_flows", "--live", role)
    said = started[role].stdout
    if said is None or said.readline().strip() != READY:
        sys.exit(f"{role} has ended")
    return time.perf_counter() - begun_s


def _idle(pids: dict[str, int], chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """CPU of each process in percent of a core while nothing comes, and what it holds."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    time.sleep(chosen.idle_s)
    held = {name: _held(pid) for name, pid in pids.items()}
    partitions = chosen.flows * chosen.partitions
    return {
        name: {
            "idle_cpu_percent": rounded((cpu_s(pid) - before[name]) / chosen.idle_s * 100),
            **held[name],
            "descriptors_a_partition": rounded(held[name]["descriptors"] / partitions),
        }
        for name, pid in pids.items()
    }


def _held(pid: int) -> dict[str, float]:
    process = Path(f"/proc/{pid}")
    count: Callable[[str], int] = lambda name: sum(1 for _ in (process / name).iterdir())  # noqa: E731
    return {"threads": count("task"), "descriptors": count("fd")}


def main() -> None:
    """Measure and print; as a role, live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--bootstrap", default="", help="a broker that is there; one is started otherwise")
    parser.add_argument("--flows", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=8, help="of each flow")
    parser.add_argument("--idle-s", type=float, default=IDLE_S, help="how long idle roles are measured")
    parser.add_argument("--roles", nargs="+", choices=list(ROLES), default=list(ROLES))
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--live", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.prepare:
        asyncio.run(prepare())
    elif chosen.live:
        asyncio.run(live(chosen.live))
    else:
        say(measure(chosen), as_json=chosen.json)


if __name__ == "__main__":
    main()
