"""Ownership of the machine's time, chance and threads while a simulation runs in this process.

`time.time`, `time.monotonic`, `time.sleep` and their kin read the loop's time; `random`, `uuid.uuid4`, `os.urandom` and
`secrets` draw from the seed; a thread is refused. `datetime.now()` cannot be replaced: it stays the machine's.
Threads that ran before keep the machine's time and chance.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from choreo.testing.simulation.clock import EPOCH_MS
from choreo.testing.simulation.loop import START_S, SimulationLoop

REAL_MONOTONIC = time.monotonic
"""The machine's clock, for tools that measure how fast a simulation is."""


class Slept:
    """The time that a plain handler has spent in `time.sleep`: it holds no thread, so its result comes later."""

    def __init__(self) -> None:
        self.seconds: float = 0.0


SLEPT: ContextVar[Slept | None] = ContextVar("time that a plain handler slept", default=None)


@contextmanager
def owned(loop: SimulationLoop, seed: object) -> Iterator[None]:
    """Let time and chance of this process be those of the simulation until the block ends."""
    chance = random.Random(f"chance of {seed}")  # noqa: S311 - chosen by the seed, not secret

    def drawn(size: int) -> bytes:
        return chance.randbytes(size)

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        *((time, name, value) for name, value in _clocks(loop).items()),
        (os, "urandom", drawn),
        (random, "_urandom", drawn),
        (threading.Thread, "start", _refusing_start(loop)),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    state = random.getstate()
    random.seed(f"random of {seed}")
    for (place, name, value), (*_, real) in zip(replaced, before, strict=True):
        setattr(place, name, _in_this_thread(value, real))
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        random.setstate(state)


def _in_this_thread(simulated: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is `simulated` in the thread of the simulation, and `real` in every other one."""
    owner, current = threading.get_ident(), threading.get_ident

    def chosen(*arguments: Any, **options: Any) -> Any:
        return simulated(*arguments, **options) if current() == owner else real(*arguments, **options)

    return chosen


def _clocks(loop: SimulationLoop) -> dict[str, Callable[..., Any]]:
    def now_s() -> float:
        slept = SLEPT.get()
        return loop.time() + (slept.seconds if slept is not None else 0.0)

    def wall_s() -> float:
        return EPOCH_MS / 1_000 - START_S + now_s()

    def sleep(seconds: float) -> None:
        slept = SLEPT.get()
        if slept is None:
            raise loop.refuse(f"time.sleep({seconds:g}), which would stop every process,")
        slept.seconds += seconds

    return {
        "time": wall_s,
        "time_ns": lambda: round(wall_s() * 1e9),
        "monotonic": now_s,
        "monotonic_ns": lambda: round(now_s() * 1e9),
        "perf_counter": now_s,
        "perf_counter_ns": lambda: round(now_s() * 1e9),
        "sleep": sleep,
    }


def _refusing_start(loop: SimulationLoop) -> Callable[[threading.Thread], None]:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not loop.is_running():
            real(thread)
            return
        raise loop.refuse(f"the thread {thread.name!r}")

    return start
