"""The client of a Redis address: one server, or the primary that sentinels name. Knows no Redis command.

`redis://`, `rediss://` (TLS) and `unix://` name one server. `redis+sentinel://USER:PASSWORD@HOST:26379,HOST/NAME/DB`
and `rediss+sentinel://` name sentinels and the primary they watch; user and password are the primary's, those of the
sentinels go into the query: `?sentinel_username=…&sentinel_password=…`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from choreo.core.errors import SettingsError

SENTINEL_PORT = 26_379
_SENTINEL = "+sentinel"
_SHAPE = (
    "Write redis://host:6379/0, rediss://user:password@host:6379/0, unix:///path, or "
    "redis+sentinel://host:26379,host:26379/NAME/0; percent-encode what is special in user and password "
    "(a slash is %2F, an at-sign %40)."
)


class Address(NamedTuple):
    """A client that is not connected yet, and its address for messages, without a secret."""

    client: Any
    place: str
    sentinels: Sequence[Any] = ()
    """The sentinels' clients, to be closed with the client."""


def address_of(url: str) -> Address:
    """Make the client of this address; raises SettingsError without a part of the address: it may hold a password."""
    # The caller sets every bound and every retry. The client's own timeout starts a task for every send, and that task
    # swallows a cancellation that comes in the loop iteration in which it ends (cpython issue 86296). The client's own
    # retry would reach another server than the one that was examined.
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "choreo",
    }
    try:
        if _SENTINEL in url.partition("://")[0]:
            return _through_sentinels(urlsplit(url), options)
        client = Redis.from_url(url, **options)
    except (ValueError, TypeError) as error:
        raise SettingsError("this is no address of a Redis", where="setting redis", remedy=_SHAPE) from error
    known = {"host": "", "port": 6379, **client.connection_pool.connection_kwargs}
    return Address(client, f"Redis at {known.get('path') or '{host}:{port}'.format_map(known)}")


def _through_sentinels(url: SplitResult, options: dict[str, Any]) -> Address:
    """Make the client of the primary that the sentinels name; raises ValueError on another shape."""
    login, _, hosts = url.netloc.rpartition("@")
    name, _, database = url.path.strip("/").partition("/")
    found = [_host_of(part) for part in hosts.split(",") if part]
    if not name or not found:
        raise ValueError(_SHAPE)
    user, _, password = login.partition(":")
    query = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
    of_sentinels = {
        part: query.pop(f"sentinel_{part}") for part in ("username", "password") if f"sentinel_{part}" in query
    }
    is_encrypted = url.scheme.startswith("rediss")
    common = {**options, "ssl": True} if is_encrypted else options
    sentinel = Sentinel(found, sentinel_kwargs={**common, **of_sentinels})  # type: ignore[no-untyped-call]
    if query:
        raise ValueError(_SHAPE)
    client = sentinel.master_for(
        name, db=int(database or 0), username=unquote(user) or None, password=unquote(password) or None, **common
    )
    hosts = ", ".join(f"{host}:{port}" for host, port in found)
    return Address(client, f"Redis primary {name!r} of the sentinels {hosts}", sentinel.sentinels)


def _host_of(part: str) -> tuple[str, int]:
    """Split a sentinel's address into host and port; raises ValueError."""
    split = urlsplit(f"//{part}")
    if not split.hostname:
        raise ValueError(_SHAPE)
    return split.hostname, split.port or SENTINEL_PORT
