"""Waking members of this process when something new stands in a topic. Knows no log and no clock."""

from __future__ import annotations

import asyncio

Types = frozenset[str] | None


class Bell:
    """Listeners by topic, each for some types of records; a ring wakes each of them once."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[asyncio.Future[None], Types]] = {}

    def listen(self, topic: str, types: Types = None) -> asyncio.Future[None]:
        """A future that is done at the topic's next ring that is about one of these types; cancel it to stop listening.

        None: about any.
        """
        listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.setdefault(topic, {})[listener] = types
        return listener

    @property
    def listening(self) -> bool:
        """Whether anybody waits."""
        return any(not listener.done() for listeners in self._listeners.values() for listener in listeners)

    def ring(self, topic: str, types: Types = None) -> None:
        """Wake whoever listens to this topic for one of these types; None: for whichever."""
        listeners = self._listeners.get(topic, {})
        for listener, wanted in list(listeners.items()):
            if listener.done():
                del listeners[listener]
            elif types is None or wanted is None or not wanted.isdisjoint(types):
                del listeners[listener]
                listener.set_result(None)

    def ring_all(self) -> None:
        """Wake everybody: which topic it is about is not known, or it is about who belongs to a group."""
        for topic in list(self._listeners):
            self.ring(topic)
