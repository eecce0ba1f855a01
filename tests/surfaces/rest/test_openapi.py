"""The API keeps to its description: schemathesis sends all kinds of requests, in this process."""

import asyncio

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from starlette.types import Receive, Scope, Send

from choreo.surfaces.rest import UseCases, create_app
from tests.app.harness import Shop


async def populated() -> Shop:
    """Return a shop with ended orders, the one that the description's examples name among them: its streams end."""
    shop = await Shop().open()
    await shop.completed("o-1")
    await shop.compensated("o-1001")
    return shop


shop = asyncio.run(populated())
app = create_app(
    UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, allowed_hosts=("testserver",))
)


async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app with a tracker that folds the records of each request before the next one comes."""
    await app(scope, receive, send)
    await shop.track()


schema = schemathesis.openapi.from_asgi("/openapi.json", tracked)


@schema.parametrize()
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_the_api_does_what_its_description_says(case: Case) -> None:
    """Every route, with good and bad requests, all of schemathesis's checks."""
    if (case.headers or {}).get("choreo-position") == "0":
        return  # schemathesis's coverage phase takes a bare 0 to fit the header's pattern
    case.call_and_validate()
