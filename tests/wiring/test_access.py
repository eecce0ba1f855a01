"""Access control by settings: none, keys, tokens, and settings that do not fit together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from choreo.adapters.access.api_keys import create
from choreo.core.access import Role
from choreo.core.errors import ChoreoError, MissingExtraError, SettingsError
from choreo.settings import Settings
from choreo.surfaces.rest.server import try_listeners
from choreo.testing.clock import VirtualClock
from choreo.wiring.access import access_control

OIDC: dict[str, Any] = {
    "oidc_issuer": "https://login.example.org",
    "oidc_audience": "choreo",
    "oidc_jwks": "https://login.example.org/certs",
    "oidc_roles": {"ops": "operator"},
}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - under test


def test_without_settings_there_is_none() -> None:
    """As on the loopback."""
    assert access_control(Settings(), VirtualClock()) is None


def test_both_kinds_may_be_set(tmp_path: Path) -> None:
    """The description names them in this order."""
    create(tmp_path / "keys.json", "ann", Role.ADMIN, now_ms=1)
    access = access_control(Settings(api_keys=tmp_path / "keys.json", **OIDC), VirtualClock())
    assert access is not None
    assert access.schemes == ["apiKey", "openIdConnect"]


def test_an_address_that_others_reach_is_allowed_with_access_control(tmp_path: Path) -> None:
    """Nobody acts through it without a credential; without access control a permission is needed."""
    with pytest.raises(SettingsError, match="no access control is set"):
        try_listeners(Settings(host=EVERYWHERE, port=0), rest=True)
    try_listeners(Settings(host=EVERYWHERE, port=0, api_keys=tmp_path / "keys.json"), rest=True)
    try_listeners(Settings(host=EVERYWHERE, port=0, **OIDC), rest=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"oidc_jwks": ""}, "oidc_jwks"),
        ({"oidc_jwks": "http://login.example.org/certs"}, "oidc_jwks"),
        ({"oidc_audience": ""}, "CHOREO_OIDC_AUDIENCE"),
        ({"oidc_roles": {}}, "CHOREO_OIDC_ROLES"),
        ({"oidc_roles": {"ops": "root"}}, "there is no role 'root'"),
        ({"api_keys": Path("missing.json")}, "choreo keys create"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(changes: dict[str, Any], named: str) -> None:
    """Before the process serves anything."""
    with pytest.raises(ChoreoError, match=named):
        access_control(Settings(**(OIDC | changes)), VirtualClock())


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys need no extra, tokens do."""
    monkeypatch.delitem(sys.modules, "choreo.adapters.access.tokens", raising=False)
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(MissingExtraError, match=r"choreo-kafka\[oidc\]"):
        access_control(Settings(**OIDC), VirtualClock())


def test_the_name_of_the_file_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors show it, although the variable's name looks like that of a key."""
    from choreo.redaction import learn_environment, redact

    learn_environment({"CHOREO_API_KEYS": "/etc/choreo/api-keys.json", "CHOREO_SOME_API_KEY": "hush-hush-1"})
    assert redact("/etc/choreo/api-keys.json hush-hush-1") == "/etc/choreo/api-keys.json ***"
