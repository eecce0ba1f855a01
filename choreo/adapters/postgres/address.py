"""The address of a PostgreSQL database, as libpq takes it. Shows no part of it that may be secret."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from choreo.core.errors import SettingsError

_SCHEMES = ("postgresql://", "postgres://")
_SHAPE = (
    "Write postgresql://user:password@host:5432/database, or postgresql://host,host/database for a primary and its "
    "standbys; percent-encode what is special in user and password (a slash is %2F, an at-sign %40)."
)
CONNECT_S = "3"
"""Seconds for each host of the address; libpq waits for ever by default."""


class Address(NamedTuple):
    """A connection string, and its place for messages, without a secret."""

    conninfo: str
    place: str


def address_of(url: str) -> Address:
    """Return the address; raises SettingsError without a part of the address: it may hold a password."""
    given = _parts(url)
    hosts = (given.get("host") or given.get("hostaddr") or "localhost").split(",")
    ports = [port or "5432" for port in given.get("port", "").split(",")]
    if len(ports) not in (1, len(hosts)) or not all(port.isdecimal() for port in ports):
        raise _refused()
    settings = {"application_name": "choreo", "connect_timeout": CONNECT_S, "client_encoding": "UTF8"}
    if len(hosts) > 1:
        settings["target_session_attrs"] = "read-write"
    places = zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True)
    place = ", ".join(f"{host}:{port}" for host, port in places)
    return Address(make_conninfo(**{**settings, **given}), f"PostgreSQL at {place}")


def _parts(url: str) -> dict[str, str]:
    """Return the parts of an address by libpq's names. Raises SettingsError."""
    if not url.startswith(_SCHEMES):
        raise _refused()
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except (Error, ValueError):
        # Without the cause: libpq's message quotes the part that it cannot read.
        raise _refused() from None


def _refused() -> SettingsError:
    return SettingsError("this is no address of a PostgreSQL", where="setting postgres", remedy=_SHAPE)
