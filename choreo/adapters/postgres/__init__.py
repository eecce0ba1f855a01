"""PostgreSQL as stores beside a log: read model and inboxes. Importing it needs the `postgres` extra.

`server` reaches the database and examines it, `schema` creates the tables; `inbox`, `projections` and `read_model` are
the ports over them; `stores` connects them.
"""

from choreo.core.errors import MissingExtraError

try:
    import psycopg as _client  # noqa: F401 - every module of this package needs it
except ImportError as _missing:
    raise MissingExtraError.of(
        f"PostgreSQL as a store needs {_missing.name}, which is not installed",
        where="choreo.adapters.postgres",
        extra="postgres",
    ) from _missing

from choreo.adapters.postgres.stores import PostgresStores

__all__ = ["PostgresStores"]
