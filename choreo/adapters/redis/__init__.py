"""Redis as stores beside a log: read model and inboxes. Importing it needs the `redis` extra."""

from choreo.core.errors import MissingExtraError

try:
    import redis as _client  # noqa: F401 - every module of this package needs it
except ImportError as _missing:
    raise MissingExtraError.of(
        f"Redis as a store needs {_missing.name}, which is not installed", where="choreo.adapters.redis", extra="redis"
    ) from _missing

from choreo.adapters.redis.stores import RedisStores

__all__ = ["RedisStores"]
