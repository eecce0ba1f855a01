"""The parts of an event loop that a simulation does not own: threads, sockets, child processes, signals.

Each use is refused with its name, and kept: a handler may have hidden the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from choreo.testing.simulation.errors import SimulationError, not_owned
from choreo.testing.simulation.lanes import LANE

_REFUSED = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "remove_signal_handler",
    "remove_writer",
    "sendfile",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
)
"""Methods of a loop that need sockets, signals or child processes."""

_Loop: Any = asyncio.AbstractEventLoop
"""Its hints make every method abstract; a simulation has but some of them."""


class Unowned(_Loop):  # type: ignore[misc]
    """An event loop that refuses everything that needs the machine."""

    def __init__(self) -> None:
        """Begin without refusals."""
        self.refused: list[SimulationError] = []
        """Errors of user code that used threads, sockets or child processes; its handlers may have hidden them."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002 - asyncio's own
        """Refuse: there are no threads. Raises SimulationError with the function's name."""
        inner = func.args[0] if isinstance(func, partial) and func.args else func  # as asyncio.to_thread calls it
        name = getattr(inner, "__qualname__", None) or repr(inner)
        raise self.refuse(f"a thread or child process, for {name}")

    def refuse(self, used: str) -> SimulationError:
        """Return the error for a part of the machine that the simulation does not own, and keep it."""
        error = not_owned(used, lane.name if (lane := LANE.get(None)) is not None else "")
        self.refused.append(error)
        return error

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: generators of killed processes stay as they are."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        """Do nothing: there is no executor."""

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's own
        """Do nothing."""


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Unowned, *_: Any, **__: Any) -> Any:
        raise self.refuse(f"loop.{name}")

    refuse.__doc__ = "Refuse: the simulation does not own it. Raises SimulationError."
    refuse.__name__ = name
    return refuse


for _name in _REFUSED:
    setattr(Unowned, _name, _refusing(_name))
