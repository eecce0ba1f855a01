"""An address that leads new connections to a chosen target; open ones stay, as behind a DNS name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes between its port and the target's, on this machine."""

    def __init__(self, target: int) -> None:
        """Lead to `target`, which may be changed at any time."""
        self.target = target
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator[Relay]:
        """Listen while the context lasts."""
        relay = cls(target)
        server = await asyncio.start_server(relay.connected, "127.0.0.1", 0)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes in both directions."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        there = asyncio.create_task(_pass(reader, far_writer))
        await _pass(far_reader, writer)
        there.cancel()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()
