"""API keys in a file: made, listed and revoked by the command line, checked by the REST view.

The file holds the SHA-256 of each key. A slow hash protects a secret that can be guessed; a key has 256 random bits,
which cannot, so a fast hash is as good, and a request costs a microsecond. Write access to the file is the right to
make keys: it is refused where others than its owner may write it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from choreo.core.access import EVERY_FLOW, Actor, Caller, Role, role_of
from choreo.core.errors import ConflictError, NotFoundError, SettingsError, StorageError
from choreo.ports.access import UnauthenticatedError
from choreo.ports.clock import Clock

METHOD = "api-key"
PREFIX = "choreo_"
"""Begins every key, so that scanners for leaked secrets find one."""
SECRET_BYTES = 32
ID_BYTES = 6
"""48 bits tell the keys of a file apart."""

_KEY = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * ID_BYTES}}})_[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_KEY = "0" * 64


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key. Times are epoch milliseconds; 0: never."""

    id: str
    name: str
    role: str
    flows: tuple[str, ...] = ()
    """Flows in which the role holds; none: in each."""
    sha256: str
    """Of the whole key, in hexadecimal digits."""
    created_ms: int
    expires_ms: int = 0
    revoked_ms: int = 0

    def state(self, now_ms: int) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_ms:
            return "revoked"
        return "expired" if 0 < self.expires_ms <= now_ms else "valid"


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[ApiKey, ...] = ()


class _Known(NamedTuple):
    """The keys of the file as it was."""

    signature: tuple[int, int, int]
    by_id: dict[str, ApiKey]


class ApiKeys:
    """Finds the caller of a key; reads the file again when it has changed."""

    scheme: str = "apiKey"

    def __init__(self, path: Path, clock: Clock) -> None:
        """Read the file; raises SettingsError where it does not exist, StorageError where it cannot be used."""
        self._path = path
        self._clock = clock
        if not path.exists():
            raise SettingsError(
                f"there is no file {path}",
                where="setting api_keys",
                remedy="Make a first key: choreo keys create NAME --role admin.",
            )
        self._known = _read(path)

    def takes(self, credential: str) -> bool:
        """Return whether it looks like a key."""
        return credential.startswith(PREFIX)

    async def caller(self, credential: str) -> Caller:
        """Return the owner of the key."""
        found = _KEY.fullmatch(credential)
        key = self._keys().get(found[1]) if found else None
        # The comparison takes the same time for every key of this id, and there is one also for an unknown id.
        same = hmac.compare_digest(_digest(credential), key.sha256 if key else _NO_KEY)
        if key is None or not same:
            raise _refused("the key is unknown")
        state = key.state(self._clock.now_ms())
        if state != "valid":
            raise _refused(f"the key {key.name} is {state}")
        role = role_of(key.role, f"{self._path}, key {key.name}")
        return Caller(f"{METHOD}/{key.id}", Actor(key.name, METHOD), dict.fromkeys(key.flows or (EVERY_FLOW,), role))

    def _keys(self) -> dict[str, ApiKey]:
        if _signature(self._path) != self._known.signature:
            self._known = _read(self._path)
        return self._known.by_id


def create(
    path: Path, name: str, role: Role, *, flows: Sequence[str] = (), now_ms: int, expires_ms: int = 0
) -> tuple[ApiKey, str]:
    """Add a key to the file; return its entry and the key itself, which is kept nowhere.

    Raises SettingsError (name), ConflictError (a valid key has the name), StorageError.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r:.120} cannot be the name of a key",
            where="name",
            remedy="Use letters, digits and . _ @ -, 100 at most, such as ci or ann@example.org.",
        )
    id_ = secrets.token_hex(ID_BYTES)
    credential = f"{PREFIX}{id_}_{secrets.token_urlsafe(SECRET_BYTES)}"
    key = ApiKey(
        id=id_,
        name=name,
        role=role.shown,
        flows=tuple(flows),
        sha256=_digest(credential),
        created_ms=now_ms,
        expires_ms=expires_ms,
    )

    def added(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if any(each.name == name and each.state(now_ms) == "valid" for each in keys):
            raise ConflictError(
                f"there is a valid key {name!r}", where=str(path), remedy="Revoke it first, or choose another name."
            )
        return (*keys, key)

    _change(path, added)
    return key, credential


def revoke(path: Path, name: str, *, now_ms: int) -> list[ApiKey]:
    """Revoke the keys of this name or id that are not revoked yet, and return them; raises NotFoundError."""
    revoked: list[ApiKey] = []

    def without(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        changed = []
        for key in keys:
            if name in (key.name, key.id) and not key.revoked_ms:
                key = msgspec.structs.replace(key, revoked_ms=now_ms)  # noqa: PLW2901 - the entry that is kept
                revoked.append(key)
            changed.append(key)
        if not revoked:
            raise NotFoundError(
                f"there is no key {name!r:.120} to revoke", where=str(path), remedy="See `choreo keys list`."
            )
        return tuple(changed)

    _change(path, without)
    return revoked


def listed(path: Path) -> list[ApiKey]:
    """Return every key of the file, oldest first; none where there is no file."""
    return list(_read(path).by_id.values()) if path.exists() else []


def _change(path: Path, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    """Write the changed keys: whole or not at all, and one change after the other."""
    path = path.resolve()  # a link stays a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            text = msgspec.json.encode(_Content(change(tuple(listed(path)))))
            temporary = path.with_name(f"{path.name}.new")
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(text, indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise _unusable(path, f"cannot be written: {error.strerror or error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _signature(path: Path) -> tuple[int, int, int]:
    """Return values that a changed file does not share: a change replaces the file."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror or error}") from error
    if found.st_mode & _OTHERS_WRITE:
        raise _unusable(path, "may be written by others", f"Run: chmod go-w {path}")
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> _Known:
    signature = _signature(path)
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Content)
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror or error}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _unusable(path, f"is no file of keys: {error}") from error
    for key in content.keys:
        try:
            role_of(key.role, f"key {key.name}")
        except SettingsError as error:
            raise _unusable(path, error.sentence) from error
    return _Known(signature, {key.id: key for key in content.keys})


def _unusable(path: Path, what: str, remedy: str = "") -> StorageError:
    remedy = remedy or "Restore it, or make it anew with `choreo keys create`."
    return StorageError(f"the file of API keys {what}", where=str(path), remedy=remedy)


def _digest(credential: str) -> str:
    return hashlib.sha256(credential.encode(errors="replace")).hexdigest()


def _refused(what: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        what, where="header Authorization", remedy="Ask for a key: choreo keys create NAME --role ROLE."
    )
