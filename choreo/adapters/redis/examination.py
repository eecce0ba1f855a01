"""Check that a Redis server is fit for use, and detect that it may have lost acknowledged writes.

A server that evicts keys forgets outcomes; a promoted replica may lack the last writes of its old primary. Both losses
are noted beside the data with an id, so that every process learns of them, also after a restart. Pure, but for one
script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from choreo.adapters.store_errors import UnfitError
from choreo.core.errors import StorageError

_NO_PAST = "0" * 40
"""The second replication id of a server that was never a replica."""

NOTE = """
local key, evicted, run, history, promoted, evicting = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = redis.call('HMGET', key, 'evicted', 'run', 'history', 'evicting', 'inbox_loss', 'views_loss')
local inbox_loss, views_loss = known[5] or '0', known[6] or '0'
local time = redis.call('TIME')
local now = time[1] .. '.' .. time[2]
local before = known[2] == run and tonumber(known[1]) or 0
if evicted > before or (known[2] and known[2] ~= run and known[4] == '1') then
    inbox_loss, views_loss = now, now
elseif known[3] and known[3] ~= history and promoted == '1' then
    inbox_loss = now
end
redis.call('HSET', key, 'evicted', evicted, 'run', run, 'history', history, 'evicting', evicting,
    'inbox_loss', inbox_loss, 'views_loss', views_loss)
return {inbox_loss, views_loss}
"""
"""Note the server's state; returns the ids of the last loss of inboxes and of views, `0` for none."""
LOSSES = ("inbox_loss", "views_loss")


class Examined(NamedTuple):
    """The fields of INFO that choreo needs."""

    mode: str
    is_replica: bool
    policy: str
    is_bounded: bool
    keeps_file: bool
    evicted: int
    run: str
    history: str
    was_promoted: bool

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Examined:
        """Read the answer of INFO; a missing field counts as harmless."""
        return cls(
            mode=str(info.get("redis_mode", "standalone")),
            is_replica=info.get("role") == "slave",
            policy=str(info.get("maxmemory_policy", "noeviction")),
            is_bounded=bool(info.get("maxmemory")),
            keeps_file=bool(info.get("aof_enabled")),
            evicted=int(info.get("evicted_keys", 0)),
            run=str(info.get("run_id", "")),
            history=str(info.get("master_replid", "")),
            was_promoted=str(info.get("master_replid2", _NO_PAST)) != _NO_PAST,
        )

    @property
    def evicts(self) -> bool:
        """Return whether the server drops keys on its own when memory is short."""
        return self.is_bounded and self.policy != "noeviction"

    def note(self) -> tuple[int, str, str, int, int]:
        """Return the arguments of NOTE."""
        return self.evicted, self.run, self.history, int(self.was_promoted), int(self.evicts)

    def refuse_unfit(self, where: str) -> None:
        """Raise UnfitError on a server that choreo cannot work with."""
        if self.mode == "cluster":
            raise UnfitError(
                "it is a node of a Redis Cluster; one batch writes keys of many slots",
                where=where,
                remedy="Name a single primary: redis://host:6379/0, or redis+sentinel://host:26379/NAME/0.",
            )
        if self.mode == "sentinel":
            raise UnfitError(
                "it is a sentinel", where=where, remedy="Write redis+sentinel://host:26379/NAME/0 in CHOREO_REDIS."
            )

    def refuse_evicting(self, where: str) -> None:
        """Raise StorageError on a server that may drop keys: work waits until its settings are corrected."""
        if self.evicts:
            raise StorageError(
                f"it may drop keys when memory is short (maxmemory-policy {self.policy})",
                where=where,
                remedy="Set maxmemory-policy to noeviction: outcomes of steps must not be forgotten.",
            )
