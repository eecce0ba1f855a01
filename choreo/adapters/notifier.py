"""Wakes consumers of this process when a topic has new records. Knows no log and no clock."""

from __future__ import annotations

import asyncio

Types = frozenset[str] | None


class Notifier:
    """Listeners by topic, each for some types of records; a notification wakes each of them once."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[asyncio.Future[None], Types]] = {}

    def listen(self, topic: str, types: Types = None) -> asyncio.Future[None]:
        """Return a future that is done at the topic's next notification for one of these types; cancel it to stop.

        None: for any type.
        """
        listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.setdefault(topic, {})[listener] = types
        return listener

    @property
    def listening(self) -> bool:
        """Return whether a listener waits."""
        return any(not listener.done() for listeners in self._listeners.values() for listener in listeners)

    def notify(self, topic: str, types: Types = None) -> None:
        """Wake the listeners of this topic for one of these types; None: for any type."""
        listeners = self._listeners.get(topic, {})
        for listener, wanted in list(listeners.items()):
            if listener.done():
                del listeners[listener]
            elif types is None or wanted is None or not wanted.isdisjoint(types):
                del listeners[listener]
                listener.set_result(None)

    def notify_all(self) -> None:
        """Wake every listener: the topic is unknown, or the membership of a group has changed."""
        for topic in list(self._listeners):
            self.notify(topic)
