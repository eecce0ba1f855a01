"""Faults of processes and servers: deaths, standstills, networks, clocks, lost stores. Each acts on a running seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.testing.simulation.conductor import RESTART_S, Conductor
from choreo.testing.simulation.network import BROKER, REDIS
from choreo.testing.simulation.plan import Action
from choreo.testing.simulation.world import CLIENT, Process

WAYS_MAX: int = 40
"""A process that is to die on a way to a server or back does so within so many: some runs' worth."""


def kill(conductor: Conductor, action: Action) -> None:
    """Let a process die after some turns of its own, or on its way to a server or back."""

    def die(process: Process) -> None:
        if not process.is_over:
            conductor.note("kill", process.name, "the process dies", "")
            conductor.die(process, action.duration_ms / 1_000)

    _after_turns(conductor, action, die)


def freeze(conductor: Conductor, action: Action) -> None:
    """Let a process stand still after some turns; another one takes its partitions."""

    def stop(process: Process) -> None:
        if not process.is_over and not process.lane.frozen:
            conductor.note("zombie", process.name, "the process stands still")
            conductor.world.freeze(process, action.duration_ms / 1_000)
            conductor.world.later(RESTART_S, conductor.restart, process)

    _after_turns(conductor, action, stop)


async def scale(conductor: Conductor, action: Action) -> None:
    """Start another process of a role, which takes some of its partitions; stop it later, as an operator does."""
    process = conductor.started(action.target)
    conductor.note(action.kind, process.name, "another process of the role joins")
    await asyncio.sleep(action.duration_ms / 1_000)
    if not process.is_over:
        await conductor.world.stop(process)


def _after_turns(conductor: Conductor, action: Action, act: Callable[[Process], None]) -> None:
    for process in list(conductor.processes(action.target))[:1]:
        if action.after:
            process.network.at_way = (action.n % WAYS_MAX + 1, lambda process=process: act(process))
        else:
            process.lane.at_turn = (process.lane.turns + action.n, lambda process=process: act(process))


async def servers(conductor: Conductor, action: Action) -> None:
    """Let a server be away for a while: for one role, or for everybody."""
    server = BROKER if action.kind == "broker-away" else REDIS
    met = list(conductor.processes(action.target))
    for process in met:
        process.network.away.add(server)
    conductor.world.cluster.note(CLIENT, f"the {server} is away for {action.duration_ms} ms")
    await asyncio.sleep(action.duration_ms / 1_000)
    for process in met:
        process.network.away.discard(server)
    conductor.world.cluster.groups.wake()


async def slow(conductor: Conductor, action: Action) -> None:
    """Let every request of a process take longer."""
    for process in conductor.processes(action.target):
        process.network.slow_s = 0.05 + action.n / 2_000
        conductor.note(action.kind, process.name, f"requests take {process.network.slow_s:g} s longer")
    await asyncio.sleep(action.duration_ms / 1_000)
    for process in conductor.world.processes:
        process.network.slow_s = 0.0


async def requests(conductor: Conductor, action: Action) -> None:
    """Let the next answers get lost, or the next batches be torn."""
    for process in conductor.processes(action.target):
        if action.kind == "torn-batch":
            process.network.tear += 2
        else:
            process.network.lose[(BROKER, REDIS)[action.n % 2]] = 1 + action.n % 3


async def skew(conductor: Conductor, action: Action) -> None:
    """Let the clock of a process be wrong by up to a minute for a while."""
    skew_ms = (action.n - 500) * 120
    for process in conductor.processes(action.target):
        process.backend.own_clock.skew_ms = skew_ms
        conductor.note(action.kind, process.name, f"its clock is wrong by {skew_ms} ms")
    await asyncio.sleep(action.duration_ms / 1_000)
    for process in conductor.world.processes:
        process.backend.own_clock.skew_ms = 0


async def leader_skew(conductor: Conductor, action: Action) -> None:
    """Let the clock of a partition's leaders be wrong for a while, mostly behind; the next leader's is right."""
    topics, skew_ms = conductor.world.cluster.topics, (action.n - 700) * 100
    partition = action.n % len(topics.of(action.flow))
    topics.skews_ms[partition] = skew_ms
    conductor.note(action.kind, "broker", f"the clock of the leaders of partition {partition} is wrong by {skew_ms} ms")
    await asyncio.sleep(action.duration_ms / 1_000)
    topics.skews_ms.pop(partition, None)


async def empty_inbox(conductor: Conductor, action: Action) -> None:
    """Let a service's inbox lose everything."""
    conductor.world.cluster.inbox(action.target).empty()
    conductor.note(action.kind, action.target, "the inbox has lost everything")


async def empty_read_model(conductor: Conductor, action: Action) -> None:
    """Let the read model lose everything."""
    await conductor.world.cluster.projections.read_model.drop(action.flow)
    conductor.note(action.kind, CLIENT, "the read model has lost everything")
