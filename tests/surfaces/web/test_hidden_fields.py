"""Sensitive fields on the page: shown to operators, hidden from viewers on every page that shows events."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from choreo.adapters.access.api_keys import create
from choreo.core.access import Role
from tests.surfaces.web.harness import LETTER, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "5105-1051"  # noqa: S105 - under test
RUN = "/ui/flows/order/instances/secret-1"
PAGES = [
    "/ui/flows/order",
    "/ui/flows/order/instances",
    RUN,
    f"{RUN}/history",
    f"{RUN}?at=2100-01-01T00:00:00Z",
    f"{RUN}/changes",
    "/ui/dead-letters",
    f"/ui/dead-letters/{LETTER}",
    "/ui/stalled",
    "/ui/events",
    "/ui/audit",
]


@pytest.mark.parametrize("role", [Role.PUBLISHER, Role.OPERATOR], ids=lambda role: role.shown)
async def test_a_sensitive_value_is_on_no_page_of_a_viewer(site: Site, tmp_path: Path, role: Role) -> None:
    """Operators see it in the list, on the run's page and in its history; those below them nowhere."""
    await site.start("secret-1", card=SECRET)
    await site.seen("secret-1", "Charged")
    keys = tmp_path / "keys.json"
    _, key = create(keys, "ann", role, now_ms=1)
    headers = {"Authorization": f"Bearer {key}"}
    async with site.served(keys) as address, httpx.AsyncClient(base_url=address, headers=headers) as client:
        answers = {path: await client.get(path) for path in PAGES}
        asked = await client.get(f"/ui/flows/order/instances?where=card%3D{SECRET}")
    assert {answer.status_code for answer in answers.values()} == {200}
    found = {path for path, answer in answers.items() if SECRET in answer.text}
    if role >= Role.OPERATOR:
        shown = {path for path in PAGES if path.startswith(RUN)}
        assert found == {"/ui/flows/order/instances", *shown}
        assert asked.status_code == 200
    else:
        assert found == set()
        assert asked.status_code == 403
