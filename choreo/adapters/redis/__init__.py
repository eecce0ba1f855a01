"""Redis as read model and as the services' inboxes: the Kafka home's stores. Importing it needs the `redis` extra."""

from choreo.adapters.redis.stores import RedisStores

__all__ = ["RedisStores"]
