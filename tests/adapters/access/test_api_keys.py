"""API keys in a file: its content and its rights, and keys that are made side by side."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest

from choreo.adapters.access.api_keys import ApiKeys, create, listed, revoke
from choreo.core.access import EVERY_FLOW, Role
from choreo.core.errors import ConflictError, NotFoundError, SettingsError, StorageError
from choreo.ports.access import UnauthenticatedError
from choreo.redaction import redact
from choreo.testing.clock import VirtualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the place of a file that is not there yet."""
    return tmp_path / "keys" / "keys.json"


def test_the_file_holds_a_hash_and_belongs_to_its_owner(path: Path) -> None:
    """The key itself is nowhere; two keys differ."""
    (entry, key), (_, other) = (create(path, name, Role.VIEWER, now_ms=1) for name in ("a", "b"))
    text = path.read_text()
    assert key not in text
    assert key != other
    assert len(key.rpartition("_")[2]) >= 40 or len(key) > 60
    assert json.loads(text)["keys"][0]["sha256"] == hashlib.sha256(key.encode()).hexdigest() == entry.sha256
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_key_gives_its_name_and_roles(path: Path) -> None:
    """In its flows, or in each."""
    _, here = create(path, "ann", Role.OPERATOR, flows=("order", "trip"), now_ms=1)
    _, everywhere = create(path, "bob@example.org", Role.ADMIN, now_ms=1)
    keys = ApiKeys(path, VirtualClock())
    ann, bob = await keys.caller(here), await keys.caller(everywhere)
    assert (ann.actor.text, dict(ann.roles)) == ("api-key/ann", {"order": Role.OPERATOR, "trip": Role.OPERATOR})
    assert (bob.actor.text, dict(bob.roles)) == ("api-key/bob@example.org", {EVERY_FLOW: Role.ADMIN})
    assert ann.id != bob.id


async def test_a_changed_key_is_unknown(path: Path) -> None:
    """Each character counts, also where the id is right."""
    _, key = create(path, "ann", Role.ADMIN, now_ms=1)
    keys = ApiKeys(path, VirtualClock())
    for wrong in ("", key[:-1], f"{key}a", key[:-1] + ("A" if key[-1] != "A" else "B"), key.upper(), "choreo_é"):
        with pytest.raises(UnauthenticatedError, match="unknown"):
            await keys.caller(wrong)


def test_a_name_is_that_of_one_valid_key(path: Path) -> None:
    """After it is revoked or expired the name is free; names that a header cannot hold are refused."""
    first, _ = create(path, "ann", Role.VIEWER, now_ms=1, expires_ms=10)
    with pytest.raises(ConflictError, match="there is a valid key 'ann'"):
        create(path, "ann", Role.VIEWER, now_ms=9)
    second, _ = create(path, "ann", Role.VIEWER, now_ms=10)
    assert [key.id for key in revoke(path, second.id, now_ms=11)] == [second.id]
    assert [key.id for key in revoke(path, "ann", now_ms=12)] == [first.id]
    with pytest.raises(NotFoundError):
        revoke(path, "ann", now_ms=13)
    for name in ("", "a b", "a/b", "é", "-a", "a\n", "x" * 101):
        with pytest.raises(SettingsError):
            create(path, name, Role.VIEWER, now_ms=1)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    """They could make keys. Read access tells no key."""
    create(path, "ann", Role.VIEWER, now_ms=1)
    path.chmod(0o644)
    ApiKeys(path, VirtualClock())
    path.chmod(mode)
    with pytest.raises(StorageError, match="chmod go-w"):
        ApiKeys(path, VirtualClock())


@pytest.mark.parametrize("text", ["", "[]", '{"keys": [{"id": "x"}]}', '{"keys": [], "more": 1}', "\x00"])
def test_a_damaged_file_is_named(path: Path, text: str) -> None:
    """It is not taken for a file without keys."""
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StorageError, match="no file of keys"):
        ApiKeys(path, VirtualClock())


def test_a_missing_file_names_the_command(path: Path) -> None:
    """The first key makes the file."""
    with pytest.raises(SettingsError, match="choreo keys create"):
        ApiKeys(path, VirtualClock())
    assert listed(path) == []


def _make(path: Path, number: int) -> None:
    create(path, f"key-{number}", Role.VIEWER, now_ms=1)


def test_keys_made_side_by_side_are_all_kept(path: Path) -> None:
    """One process does not overwrite the key of another."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_make, [(path, number) for number in range(12)])
    assert sorted(key.name for key in listed(path)) == sorted(f"key-{number}" for number in range(12))


def test_no_text_shows_a_credential(path: Path) -> None:
    """The project's redaction knows their forms, wherever a text comes from; a file's name is no secret."""
    _, key = create(path, "ann", Role.VIEWER, now_ms=1)
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"  # noqa: S105 - signs nothing
    for text in (f"Authorization: Bearer {key}", f"got {key}!", f"token {token}", f"bearer {'x' * 30}"):
        shown = redact(text)
        assert "***" in shown
        assert key not in shown
        assert token not in shown
        assert "x" * 30 not in shown
    assert redact("Send `Authorization: Bearer …` with a key; a bearer credential; choreo_orders") == (
        "Send `Authorization: Bearer …` with a key; a bearer credential; choreo_orders"
    )
