"""Waking members of this process when something new stands in a topic. Knows no log and no clock."""

from __future__ import annotations

import asyncio


class Bell:
    """Listeners by topic; a ring wakes each of them once."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Future[None]]] = {}

    def listen(self, topic: str) -> asyncio.Future[None]:
        """A future that is done at the topic's next ring; cancel it to stop listening."""
        listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listeners = self._listeners.setdefault(topic, set())
        listeners.add(listener)
        listener.add_done_callback(listeners.discard)
        return listener

    @property
    def listening(self) -> bool:
        """Whether anybody waits."""
        return any(self._listeners.values())

    def ring(self, topic: str) -> None:
        """Wake whoever listens to this topic."""
        for listener in tuple(self._listeners.get(topic, ())):
            if not listener.done():
                listener.set_result(None)

    def ring_all(self) -> None:
        """Wake everybody: which topic it is about is not known, or it is about who belongs to a group."""
        for topic in self._listeners:
            self.ring(topic)
