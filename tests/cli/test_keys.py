"""`choreo keys` and `choreo audit`, and the author of an action on the command line."""

from __future__ import annotations

import getpass
import re
from typing import Any

import pytest


@pytest.fixture
def keyed(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the command line with a file of keys set."""
    monkeypatch.setenv("CHOREO_API_KEYS", str(desk.folder / "keys.json"))
    return desk


def test_a_key_is_shown_once(keyed: Any) -> None:
    """Alone on stdout, so that a script can keep it; the list never has it, nor its hash."""
    made = keyed("keys", "create", "ann", "--role", "operator", "--flow", "desk", "--expires", "90d")
    assert made.code == 0
    assert re.fullmatch(r"choreo_[0-9a-f]{12}_[\w-]{43}\n", made.out)
    assert "made key ann" in made.err
    (shown,) = keyed("keys", "list", "-o", "json").json["items"]
    assert {name: shown[name] for name in ("name", "role", "flows", "state", "revoked")} == {
        "name": "ann",
        "role": "operator",
        "flows": ["desk"],
        "state": "valid",
        "revoked": None,
    }
    listed = keyed("keys", "list").out
    assert made.out.strip() not in listed
    assert "sha256" not in keyed("keys", "list", "-o", "json").out


def test_a_revoked_key_is_listed_as_such(keyed: Any) -> None:
    """By name or id; a second time there is nothing to revoke."""
    key = keyed("keys", "create", "ann", "--role", "viewer", "-o", "json").json
    assert keyed("keys", "revoke", key["id"]).out.startswith(f"revoked key ann ({key['id']})")
    assert keyed("keys", "list", "-o", "json").json["items"][0]["state"] == "revoked"
    again = keyed("keys", "revoke", "ann")
    assert (again.code, "no key 'ann' to revoke" in again.err) == (4, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--role", "operater"), "Did you mean operator?"),
        (("--role", "viewer", "--expires", "soon"), "--expires"),
        (("--role", "viewer", "--expires", "0s"), "no time for a key"),
    ],
)
def test_a_wrong_option_is_refused(keyed: Any, options: tuple[str, ...], message: str) -> None:
    """The message names it, and no key is made."""
    refused = keyed("keys", "create", "ann", *options)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert keyed("keys", "list", "-o", "json").json == {"items": []}


def test_without_a_file_the_setting_is_named(desk: Any) -> None:
    """The remedy is the variable."""
    refused = desk("keys", "list")
    assert (refused.code, "CHOREO_API_KEYS" in refused.err) == (2, True)


def test_an_action_names_the_user(desk: Any) -> None:
    """In `show`, and in the audit list, newest first and in pages."""
    desk.opened("t-1")
    desk("pause", "t-1", "--reason", "stocktaking")
    desk.fold()
    desk("resume", "t-1")
    desk.fold()
    user = getpass.getuser()
    assert f"by {user} (cli): stocktaking" in desk("show", "t-1").out
    first = desk("audit", "desk", "--limit", "1", "-o", "json").json
    rest = desk("audit", "--cursor", first["cursor"], "-o", "json").json
    (resumed,), (paused,) = first["items"], rest["items"]
    assert (resumed["type"], paused["type"]) == ("choreo.FlowResumed", "choreo.FlowPaused")
    assert (paused["actor"], paused["method"], paused["reason"]) == (user, "cli", "stocktaking")
    table = desk("audit").out
    assert table.index("FlowResumed") < table.index("FlowPaused")


def test_another_cursor_is_refused(desk: Any) -> None:
    """It belongs to another list."""
    refused = desk("audit", "desk", "--cursor", "1.2.3.4.5.6.7.8.9.10.11")
    assert (refused.code, "not a cursor of this list" in refused.err) == (4, True)
