"""The projector's writes in Redis: one script per batch checks the partition's position and writes all or nothing.

A script, because the index entries depend on the stored rows and MULTI cannot read: it is as atomic, in one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from choreo.adapters.nul_free import escaped
from choreo.adapters.redis.server import RedisServer
from choreo.adapters.redis.view_generations import ROOT, ViewGenerations
from choreo.adapters.rows import attribute_index, bytes_of_fold, bytes_of_view, fold_of, row_id
from choreo.core.state import STATUSES
from choreo.ports.projections import KeyFold, Projected

_encode = msgspec.msgpack.Encoder().encode

# Fields of a start event never change: they are indexed when their row is new. A search attribute does change: the row
# leaves the place of its former key, which `key_of` holds. A row's status does
# change: a row that is added to the set of one status leaves the sets of all others, one of which had it. Lua's stack
# takes no more than some thousand values at once.
_SAVE = f"""
{ROOT}
local flow, partition, begins, position = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local stands = tonumber(redis.call('HGET', root .. ':positions', partition) or 0)
if stands ~= begins then return stands end
local keys, views, history, statuses = unpack(cmsgpack.unpack(ARGV[5]))
for i, key in ipairs(keys) do redis.call('HSET', root .. ':states', key, ARGV[5 + i]) end
for i, view in ipairs(views) do
    local row, key, status, started, attributes, keys_of_row, place, since, due = unpack(view)
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
    local stood = redis.call('HGET', root .. ':place_of', row)
    if stood and stood ~= place then
        redis.call('ZREM', root .. ':place:' .. stood, row)
        redis.call('HDEL', root .. ':place_of', row)
    end
    if place ~= '' then
        redis.call('ZADD', root .. ':place:' .. place, since, row)
        if stood ~= place then redis.call('HSET', root .. ':place_of', row, place) end
    end
    if due > 0 then
        redis.call('ZADD', root .. ':due', due, row)
    elseif not new then
        redis.call('ZREM', root .. ':due', row)
    end
    for _, each in ipairs(keys_of_row) do
        local name, value = each[1], each[2]
        local known = redis.call('HGET', root .. ':key_of:' .. name, row)
        if known and known ~= value then
            redis.call('ZREM', root .. ':keys:' .. name, known .. '\\0' .. row)
            redis.call('HDEL', root .. ':key_of:' .. name, row)
        end
        if value and known ~= value then
            redis.call('ZADD', root .. ':keys:' .. name, 0, value .. '\\0' .. row)
            redis.call('HSET', root .. ':key_of:' .. name, row, value)
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

    def __init__(self, server: RedisServer, generations: ViewGenerations) -> None:
        """Share the server and the generations with the read model."""
        self._server = server
        self._generations = generations

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the next offset to fold, by partition; all begin again where the server has lost some of the views."""
        await self._generations.renew(topic)
        return await self._generations.positions(topic)

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:  # noqa: ARG002 - a key has one
        """Return the saved folds of these keys."""
        if not keys:
            return {}
        root = await self._generations.root(topic)
        values = await self._server.ask("HMGET", f"{root}:states", *keys)
        return {
            key: KeyFold(key, *fold_of(value)) for key, value in zip(keys, values, strict=True) if value is not None
        }

    async def save(self, batch: Projected) -> int:
        """Save the batch if it begins at the partition's position; return the position after it."""
        plan = (
            [kept.key for kept in batch.keys],
            [
                (
                    row_id(view.key, view.run),
                    view.key,
                    view.status,
                    view.started_ms,
                    [attribute_index(name, value) for name, value in view.attributes.items() if name not in view.keys],
                    [(name, key and escaped(key)) for name, key in view.keys.items()],
                    view.place,
                    view.since_ms,
                    view.due_ms,
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
