"""Sensitive fields over REST: shown to operators, hidden from viewers and publishers in every answer."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from choreo.adapters.access.api_keys import ApiKeys, create
from choreo.core.access import Role
from choreo.event.sensitive import HIDDEN
from choreo.ports.dead_letters import DeadLetter
from choreo.settings import Settings
from choreo.surfaces.rest import create_app
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.server import use_cases_of
from choreo.wiring import App, everything, open_app, run
from tests.support.patience import PATIENCE_S
from tests.support.secret_notes import Closed, Noted

SECRET = "4711-0815"  # noqa: S105 - under test
LETTER = "00000000-0000-4000-8000-000000000001"
NOTE = "/flows/note/instances/n-1"
ATTRIBUTES = {"note_id": "n-1", "card": SECRET, "colour": "red", "code": SECRET}


@asynccontextmanager
async def played() -> AsyncIterator[App]:
    """Yield an app with one ended run, one dead letter, and one open run with an answer under another key."""
    settings = Settings(flows=("tests.support.secret_notes:note",), port=0)
    async with open_app(settings, memory=True) as app:
        stop = asyncio.Event()
        running = asyncio.create_task(run(app, everything(app, rest=False), stop))
        for key in ("n-1", "n-2"):
            receipt = await app.publisher.publish("note", Noted(note_id=key, card=SECRET))
            await app.queries.reached(receipt.position, PATIENCE_S)
        await seen(app, "n-1", "Filed")
        await app.publisher.publish("note", Closed(note_id="n-1", card=SECRET))
        await seen(app, "n-1", "choreo.FlowCompleted")
        await seen(app, "n-2", "Filed")
        await app.publisher.publish("note", Closed(note_id="N2", card=SECRET), allow_early=True)
        record = (await app.backend.read_model.history("note", "n-1", -1, 1))[0]
        letter = DeadLetter(LETTER, "note", record.partition, record.offset, "archive", "archive.file", "no", 1, record)
        await app.backend.dead_letters.add([letter])
        try:
            yield app
        finally:
            stop.set()
            await running


async def seen(app: App, key: str, type_: str) -> None:
    """Wait until the run shows an event of this type."""
    async for row in app.queries.follow("note", key):
        if row is not None and row.type == type_:
            return


@asynccontextmanager
async def asking(app: App, folder: Path, role: Role) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with this role."""
    path = folder / "keys.json"
    _, key = create(path, role.shown, role, flows=("note",), now_ms=1)
    access = AccessControl([ApiKeys(path, app.clock)], app.clock)
    transport = httpx.ASGITransport(create_app(replace(use_cases_of(app), access=access)))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


READS = [
    "/flows",
    "/flows/note",
    "/flows/note/audit",
    "/flows/note/instances",
    NOTE,
    f"{NOTE}?at=2100-01-01T00:00:00Z",
    f"{NOTE}/changes",
    f"{NOTE}/history",
    f"{NOTE}/timeline",
    f"{NOTE}/events",
    f"{NOTE}/why",
    "/flows/note/instances/n-2/why",
    "/dead-letters",
    f"/dead-letters/{LETTER}",
]


@pytest.mark.parametrize("role", [Role.PUBLISHER, Role.OPERATOR], ids=lambda role: role.shown)
async def test_a_sensitive_value_is_in_no_answer_to_a_viewer(role: Role, tmp_path: Path) -> None:
    """Operators see it in the history, the stream, the lists and the dead letter; those below them nowhere."""
    async with played() as app, asking(app, tmp_path, role) as client:
        answers = {path: (await client.get(path)).text for path in READS}
        decoded = b64decode((await client.get(f"/dead-letters/{LETTER}")).json()["data_base64"])
        found = {path for path, text in answers.items() if SECRET in text}
        listed = (await client.get("/flows/note/instances?key=n-1")).json()["items"][0]["attributes"]
        filtered = [(await client.get(f"/flows/note/instances?attr.{name}={SECRET}")) for name in ("card", "code")]
        prefix = await client.get("/flows/note/instances?attr.code^=4")
    if role >= Role.OPERATOR:
        assert {f"{NOTE}/history", f"{NOTE}/events", NOTE, "/flows/note/instances"} <= found
        assert (SECRET.encode() in decoded, listed) == (True, ATTRIBUTES)
        assert [answer.status_code for answer in (*filtered, prefix)] == [200, 200, 200]
        return
    assert (found, decoded) == (set(), b"")
    assert listed == ATTRIBUTES | {"card": HIDDEN, "code": HIDDEN}
    assert [answer.status_code for answer in (*filtered, prefix)] == [403, 403, 403]
    assert {answer.json()["detail"] for answer in filtered} == {
        f"{name} is sensitive, and {role.shown} (api-key) may not filter by it" for name in ("card", "code")
    }


async def test_other_values_of_the_event_are_shown(tmp_path: Path) -> None:
    """The mask is as small as the mark."""
    async with played() as app, asking(app, tmp_path, Role.VIEWER) as client:
        rows: list[dict[str, Any]] = (await client.get(f"{NOTE}/history")).json()["items"]
    assert rows[0]["fields"] == {"note_id": "n-1", "card": HIDDEN, "colour": "red"}
