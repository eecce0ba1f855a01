"""Redis as read model and as the services' inboxes: the Kafka home's stores. Importing it needs the `redis` extra."""

from __future__ import annotations

from choreo.core.errors import MissingExtraError

try:
    import redis as _redis
except ImportError as error:
    raise MissingExtraError(
        f"Redis as a store needs {error.name}, which is not installed",
        where="choreo.adapters.redis",
        remedy="Install the extra: pip install 'choreo[redis]'.",
    ) from error

from choreo.adapters.redis.stores import RedisStores

__all__ = ["RedisStores"]

del _redis
