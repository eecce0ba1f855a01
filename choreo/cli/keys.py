"""`choreo keys`: make, list and revoke the API keys of the REST view. Opens no storage; no provider is needed."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo import settings
from choreo.adapters.access.api_keys import ApiKey, create, listed, revoke
from choreo.app.query.status_text import moment
from choreo.cli.deferred import group
from choreo.cli.output import Format, Output, document, plain, remark, table, write
from choreo.cli.project import flow_names
from choreo.core.access import role_of
from choreo.core.durations import milliseconds
from choreo.core.errors import DeclarationError, SettingsError

cli: typer.Typer = group("Make, list and revoke API keys of the REST view.")

EXPIRES_MAX_MS: int = round(timedelta(days=365 * 100).total_seconds() * 1_000)
"""A hundred years: longer is a slip of the keyboard."""


@cli.command("create")
def create_(
    name: Annotated[str, typer.Argument(help="The owner of the key; operators' facts show it.")],
    *,
    role: Annotated[str, typer.Option("--role", help="viewer, publisher, operator or admin.")],
    flow: Annotated[
        list[str] | None,
        typer.Option(
            "--flow", help="Only in this flow; may be repeated. Without it in every flow.", autocompletion=flow_names
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", help="How long it is valid, such as 90d; without it for good.")
    ] = "",
    output: Output = Format.TABLE,
) -> None:
    """Make a key and print it, once: only its hash is kept, in the file that CHOREO_API_KEYS names."""
    path = _path()
    now_ms = time.time_ns() // 1_000_000
    key, credential = create(
        path,
        name,
        role_of(role, "--role"),
        flows=tuple(dict.fromkeys(flow or ())),
        now_ms=now_ms,
        expires_ms=_end_ms(expires, now_ms),
    )
    if output is Format.JSON:
        document({**_shown(key, now_ms), "key": credential})
        return
    remark(f"made {_sentence(key)}; the key is shown only now:")
    write(credential)


@cli.command("list")
def list_(*, output: Output = Format.TABLE) -> None:
    """List the keys, oldest first: names, roles and times, never a key itself."""
    now_ms = time.time_ns() // 1_000_000
    keys = listed(_path())
    if output is Format.JSON:
        document({"items": [_shown(key, now_ms) for key in keys]})
        return
    rows = [
        (
            key.id,
            key.name,
            key.role,
            ", ".join(key.flows) or "every flow",
            key.state(now_ms),
            _time(key.expires_ms) or "never",
        )
        for key in keys
    ]
    table(("id", "name", "role", "in", "state", "expires"), rows)


@cli.command("revoke")
def revoke_(
    name: Annotated[str, typer.Argument(help="The name or the id of the key.")], *, output: Output = Format.TABLE
) -> None:
    """Revoke a key: a running REST view refuses it from the next request on."""
    now_ms = time.time_ns() // 1_000_000
    revoked = revoke(_path(), name, now_ms=now_ms)
    if output is Format.JSON:
        document({"items": [_shown(key, now_ms) for key in revoked]})
        return
    for key in revoked:
        write(plain(f"revoked {_sentence(key)}"))


def _path() -> Path:
    path = settings.load().api_keys
    if path is None:
        raise SettingsError(
            "no file of API keys is set",
            where="setting api_keys",
            remedy="Set CHOREO_API_KEYS=api-keys.json, or `api_keys` under [tool.choreo] in pyproject.toml.",
        )
    return path


def _end_ms(expires: str, now_ms: int) -> int:
    if not expires:
        return 0
    try:
        duration_ms = milliseconds(expires, "--expires")
    except DeclarationError as error:
        raise SettingsError(error.what, where=error.where, remedy=error.remedy) from error
    if not 0 < duration_ms <= EXPIRES_MAX_MS:
        raise SettingsError(f"{expires} is no time for a key", where="--expires", remedy="Give one such as 90d.")
    return now_ms + duration_ms


def _time(time_ms: int) -> str | None:
    return moment(time_ms) if time_ms else None


def _sentence(key: ApiKey) -> str:
    return f"key {key.name} ({key.id}): {key.role} in {', '.join(key.flows) or 'every flow'}"


def _shown(key: ApiKey, now_ms: int) -> dict[str, Any]:
    """Return the fields of a key for programs; its hash is nobody's business."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "flows": list(key.flows),
        "state": key.state(now_ms),
        "created": _time(key.created_ms),
        "expires": _time(key.expires_ms),
        "revoked": _time(key.revoked_ms),
    }
