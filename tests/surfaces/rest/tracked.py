"""The API over a shop in memory whose tracker folds the records of each request: for requests of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.types import ASGIApp, Receive, Scope, Send

from choreo.ports.clock import Clock
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.access_control import AccessControl
from tests.app.harness import Shop, batches_of
from tests.app.query.test_run_pictures import pasts_of


async def populated() -> Shop:
    """Return a shop with ended orders, the one that the description's examples name among them: its streams end."""
    shop = await Shop().open()
    await shop.completed("o-1")
    await shop.compensated("o-1001")
    return shop


def tracked_app(access: Callable[[Clock], AccessControl] | None = None) -> ASGIApp:
    """Return the application; `access` makes its access control."""
    shop = asyncio.run(populated())
    app = create_app(
        UseCases(
            shop.flows,
            shop.publisher,
            shop.operator,
            shop.queries,
            shop.clock,
            batches=batches_of(shop),
            pasts=pasts_of(shop),
            allowed_hosts=("testserver",),
            access=access(shop.clock) if access else None,
        )
    )

    async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app with a tracker that folds the records of each request before the next one comes."""
        await app(scope, receive, send)
        await shop.track()

    return tracked


def excluded(case: Case) -> list[Any]:
    """Return the checks that cannot hold for this request.

    The description cannot name the attributes of a flow's filters, nor the partitions in a cursor of its log.
    """
    attributes = isinstance(case.body, dict) and case.body.get("attributes")
    free = attributes or (case.path.endswith("/audit") and (case.query or {}).get("cursor"))
    return [positive_data_acceptance] if free else []
