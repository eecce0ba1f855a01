"""The event loop in virtual time: order by lanes, time that jumps, processes that freeze and die, refusals."""

import asyncio
import random
import socket
import threading
import time
import uuid

import pytest

from choreo.testing.simulation.errors import SimulationError
from choreo.testing.simulation.lanes import Lane
from choreo.testing.simulation.loop import SimulationLoop, spawn
from choreo.testing.simulation.ownership import owned

DAY_S = 86_400


def test_time_jumps_to_the_next_timer() -> None:
    """Wait a month in no time; a timeout ends by the same time."""

    async def wait() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30 * DAY_S):
                await asyncio.Event().wait()
        return loop.time() - began

    assert SimulationLoop().run_until_complete(wait()) == pytest.approx(30 * DAY_S)


def test_a_lane_runs_in_order_and_the_choice_is_between_lanes() -> None:
    """Run each process first in, first out, for every choice."""

    def order(choices: list[int]) -> list[str]:
        loop, ran = SimulationLoop(lambda n: choices.pop(0) % n if choices else 0), list[str]()

        async def work(name: str) -> None:
            for number in range(3):
                ran.append(f"{name}{number}")
                await asyncio.sleep(0)

        async def both() -> None:
            await asyncio.gather(spawn(loop, Lane("a"), work("a")), spawn(loop, Lane("b"), work("b")))

        loop.run_until_complete(both())
        return ran

    assert order([]) != order([1, 1, 0, 1])
    for ran in (order([]), order([1, 1, 0, 1])):
        assert [name for name in ran if name.startswith("a")] == ["a0", "a1", "a2"]


def test_a_killed_lane_runs_nothing_more_not_even_finally() -> None:
    """Leave a dead process as it stood."""
    loop, lane, ran = SimulationLoop(), Lane("victim"), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ran.append("finally")

    async def kill() -> None:
        task = spawn(loop, lane, work())
        await loop.idle()
        loop.kill(lane)
        task.cancel()
        await loop.idle()

    loop.run_until_complete(kill())
    assert ran == []
    loop.bury()
    assert ran == ["finally"]


def test_a_frozen_lane_goes_on_where_it_was() -> None:
    """Let its timers pass meanwhile."""
    loop, lane, seen = SimulationLoop(), Lane("sleeper"), list[float]()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        seen.append(loop.time())

    async def freeze() -> None:
        task = spawn(loop, lane, work())
        await loop.idle()
        loop.freeze(lane)
        loop.call_later(60, loop.thaw, lane)
        await task

    loop.run_until_complete(freeze())
    assert seen == [pytest.approx(61)]


def test_it_runs_inside_of_a_task_of_another_loop() -> None:
    """Drive it from a coroutine, which goes on afterwards."""

    async def outer() -> tuple[object, object]:
        before = asyncio.current_task()
        SimulationLoop().run_until_complete(asyncio.sleep(0))
        await asyncio.sleep(0)
        return before, asyncio.current_task()

    before, afterwards = asyncio.run(outer())
    assert before is afterwards


def test_nothing_left_to_happen_is_an_error() -> None:
    """Name the time at which everything waits for ever."""
    loop = SimulationLoop()

    async def hang() -> None:
        await loop.create_future()

    with pytest.raises(SimulationError, match="nothing is left to happen"):
        loop.run_until_complete(hang())


def test_a_thread_from_before_keeps_the_machine_s_time() -> None:
    """Leave the background work of the program alone: it is no part of the simulation, and does not fail it."""
    begin, began, end, found = threading.Event(), threading.Event(), threading.Event(), list[float]()

    def work() -> None:
        begin.wait()
        found.append(time.monotonic())
        time.sleep(0)
        found.append(time.monotonic())
        began.set()
        end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    before = time.monotonic()

    async def simulated() -> None:
        begin.set()
        began.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30 * DAY_S):
                await asyncio.Event().wait()

    loop = SimulationLoop()
    with owned(loop, 1):
        loop.run_until_complete(simulated())
        end.set()
    thread.join()
    assert not loop.refused
    assert before <= found[0] <= found[1] <= time.monotonic()


def test_threads_and_sockets_are_refused_by_name() -> None:
    """Name each, and keep it: user code may hide the error."""
    loop = SimulationLoop()

    async def use() -> None:
        with pytest.raises(SimulationError, match="gethostname"):
            await asyncio.to_thread(socket.gethostname)
        with pytest.raises(SimulationError, match="create_connection"):
            await asyncio.open_connection("localhost", 1)
        with pytest.raises(SimulationError, match="'worker'"):
            threading.Thread(target=print, name="worker").start()

    with owned(loop, 1):
        loop.run_until_complete(use())
    assert len(loop.refused) == 3


def test_time_and_chance_are_the_seeds() -> None:
    """Draw the same from the same seed, and leave the machine's own alone afterwards."""

    async def draw() -> tuple[float, float, str]:
        return time.time(), random.random(), str(uuid.uuid4())

    def drawn(seed: int) -> tuple[float, float, str]:
        loop = SimulationLoop()
        with owned(loop, seed):
            return loop.run_until_complete(draw())

    assert drawn(7) == drawn(7)
    assert drawn(7)[1:] != drawn(8)[1:]
    assert abs(time.time() - drawn(7)[0]) > 1
