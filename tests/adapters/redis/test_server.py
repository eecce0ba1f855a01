"""The effects of a call to Redis on its caller."""

import asyncio

import pytest

from choreo.adapters.redis.server import RedisServer
from tests.support.redis_server import OwnRedis

TURNS = 40
"""An answer takes some ten turns of the loop."""


async def test_who_is_cancelled_in_a_call_stays_cancelled(shared_redis: OwnRedis) -> None:
    """At whichever turn: Ctrl-C comes once, and a call that ate it would leave the program running."""
    server = RedisServer(shared_redis.url)
    for turns in range(TURNS):
        call = asyncio.ensure_future(server.ask("PING"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.cancel():
            with pytest.raises(asyncio.CancelledError):
                await call
    assert await server.ask("PING")
    await server.close()
