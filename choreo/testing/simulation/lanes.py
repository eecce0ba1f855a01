"""Lanes: the callbacks of each simulated process, in order. Knows no loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any


class Lane:
    """The callbacks of one simulated process that are ready, in order."""

    __slots__ = ("at_turn", "frozen", "killed", "name", "ready", "turns", "waiting")

    def __init__(self, name: str) -> None:
        """Start empty."""
        self.name: str = name
        self.ready: deque[Turn] = deque()
        self.turns: int = 0
        """Callbacks that have run."""
        self.frozen: bool = False
        self.killed: bool = False
        self.at_turn: tuple[int, Callable[[], None]] | None = None
        """A number of turns, and the action that takes the place of the turn after them."""
        self.waiting: bool = False
        """Whether it is among the loop's lanes that have something to run."""


LANE: ContextVar[Lane] = ContextVar("simulated process")
"""The lane that code runs in; tasks and callbacks inherit it."""


class Turn(asyncio.TimerHandle):
    """A callback with its lane."""

    __slots__ = ("callback", "dropped", "lane", "values", "within")

    def __init__(
        self, when: float, callback: Callable[..., Any], values: tuple[Any, ...], lane: Lane, context: Context
    ) -> None:
        """Belong to a lane; `asyncio` gets no loop to tell of a cancellation."""
        super().__init__(when, callback, values, _NO_LOOP, context)
        self.callback: Callable[..., Any] = callback
        self.values: tuple[Any, ...] = values
        self.within: Context = context
        self.lane: Lane = lane
        self.dropped: bool = False

    def cancel(self) -> None:
        """Do not run it."""
        self.dropped = True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self.dropped


class _NoLoop:
    def get_debug(self) -> bool:
        return False


_NO_LOOP: Any = _NoLoop()
