"""What the projector writes, in Redis: one script a batch looks where the partition stands, and writes all or nothing.

A script because indexes follow from what is there, and because MULTI cannot look: it is as atomic, and one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from choreo.adapters.redis.generations import ROOT, Generations
from choreo.adapters.redis.rows import attribute_index, bytes_of_fold, bytes_of_view, fold_of, row_id
from choreo.adapters.redis.server import RedisServer
from choreo.core.state import STATUSES
from choreo.ports.projections import KeyFold, Projected

_encode = msgspec.msgpack.Encoder().encode

# A view's attributes are its start event's and never change: they are indexed when its row is new. Its status does: a
# row that comes new into the set of one leaves those of all others, of which it was in one. Lua's stack takes no more
# than some thousand values at once.
_SAVE = f"""
{ROOT}
local flow, partition, begins, position = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local stands = tonumber(redis.call('HGET', root .. ':positions', partition) or 0)
if stands ~= begins then return stands end
local keys, views, history, statuses = unpack(cmsgpack.unpack(ARGV[5]))
for i, key in ipairs(keys) do redis.call('HSET', root .. ':states', key, ARGV[5 + i]) end
for i, view in ipairs(views) do
    local row, key, status, started, attributes = unpack(view)
    local new = redis.call('HSET', root .. ':rows', row, ARGV[5 + #keys + i]) == 1
    local moved = redis.call('ZADD', root .. ':status:' .. status, started, row) == 1
    if new then
        redis.call('ZADD', root .. ':all', started, row)
        redis.call('ZADD', root .. ':runs:' .. key, started, row)
        for _, attribute in ipairs(attributes) do redis.call('ZADD', root .. ':' .. attribute, started, row) end
    elseif moved then
        for _, other in ipairs(statuses) do
            if other ~= status then redis.call('ZREM', root .. ':status:' .. other, row) end
        end
    end
end
for _, records in ipairs(history) do
    local scored = {{}}
    for _, offset in ipairs(records[2]) do scored[#scored + 1], scored[#scored + 2] = offset, offset end
    for first = 1, #scored, 1000 do
        redis.call('ZADD', root .. ':history:' .. records[1], unpack(scored, first, math.min(first + 999, #scored)))
    end
end
redis.call('HSET', root .. ':positions', partition, position)
redis.call('SADD', KEYS[2], flow)
return position
"""


class RedisProjections:
    """`choreo.ports.projections.Projections` in Redis. Everything raises StorageError."""

    def __init__(self, server: RedisServer, generations: Generations) -> None:
        """Both are shared with the read model."""
        self._server = server
        self._generations = generations

    async def positions(self, topic: str) -> dict[int, int]:
        """The next offset to fold, by partition; all begin anew where the server has lost some of the views."""
        await self._generations.renew(topic)
        return await self._generations.positions(topic)

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:  # noqa: ARG002 - a key has one
        """What is kept of these keys."""
        if not keys:
            return {}
        root = await self._generations.root(topic)
        values = await self._server.ask("HMGET", f"{root}:states", *keys)
        return {
            key: KeyFold(key, *fold_of(value)) for key, value in zip(keys, values, strict=True) if value is not None
        }

    async def save(self, batch: Projected) -> int:
        """Make the batch true if the partition stands where it begins; returns where the partition stands then."""
        plan = (
            [kept.key for kept in batch.keys],
            [
                (
                    row_id(view.key, view.run),
                    view.key,
                    view.status,
                    view.started_ms,
                    [attribute_index(name, value) for name, value in view.attributes.items()],
                )
                for view in batch.views
            ],
            [(key, list(offsets)) for key, offsets in batch.history.items()],
            STATUSES,
        )
        stands: int = await self._server.run(
            _SAVE,
            [self._generations.name(batch.topic), self._generations.flows_key],
            batch.topic,
            batch.partition,
            batch.begins,
            batch.position,
            _encode(plan),
            *(bytes_of_fold(kept.state, kept.attributes) for kept in batch.keys),
            *(bytes_of_view(view) for view in batch.views),
        )
        return stands
