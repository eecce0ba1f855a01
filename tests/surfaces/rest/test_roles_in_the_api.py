"""The API keeps to its description with access control: schemathesis sends requests of all kinds as a viewer."""

import asyncio
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from starlette.types import Receive, Scope, Send

from choreo.core.access import Actor, Caller, Role
from choreo.ports.access import UnauthenticatedError
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.roles import ROUTES, Need, Within
from tests.app.harness import Shop


class Named:
    """Takes the name of a role for a credential of that role."""

    scheme = "apiKey"

    def takes(self, credential: str) -> bool:
        """Return whether it is one word."""
        return credential.isalpha()

    async def caller(self, credential: str) -> Caller:
        """Return a caller with this role in the shop's flow."""
        for role in Role:
            if role.shown == credential:
                return Caller(credential, Actor(credential, "api-key"), {"order": role})
        raise UnauthenticatedError("it is none", where="header Authorization")


async def populated() -> Shop:
    """Return a shop with two ended orders."""
    shop = await Shop().open()
    await shop.completed("o-1")
    await shop.compensated("o-1001")
    return shop


shop = asyncio.run(populated())
app = create_app(
    UseCases(
        shop.flows,
        shop.publisher,
        shop.operator,
        shop.queries,
        shop.clock,
        allowed_hosts=("testserver",),
        access=AccessControl([Named()], shop.clock),
    )
)


async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app with a tracker that folds the records of each request before the next one comes."""
    await app(scope, receive, send)
    await shop.track()


VIEWER = {"Authorization": "Bearer viewer"}
schema = schemathesis.openapi.from_asgi("/openapi.json", tracked, headers=VIEWER)
# test_openapi has the phase of every boundary; here each answer is a refusal, or that of a plain read.
schema.config.phases.update(phases=["examples", "fuzzing"])
# It sends wrong credentials, which block its address for all that follows; test_access has these cases.
EXCLUDED: list[Any] = CHECKS.get_by_names(["ignored_auth"])


@schema.parametrize()
@settings(max_examples=1, suppress_health_check=list(HealthCheck))
def test_a_viewer_reaches_its_routes_and_no_others(case: Case) -> None:
    """Of all requests: each answer is a described one, and no request is accepted that needs another role."""
    if (case.headers or {}).get("choreo-position") == "0":
        return  # schemathesis's coverage phase takes a bare 0 to fit the header's pattern
    answer = case.call_and_validate(headers=VIEWER, excluded_checks=EXCLUDED)
    need = ROUTES.get(f"{case.method.upper()} {case.path}", Need(Role.VIEWER, Within.ANY))
    if need.role > Role.VIEWER:
        # 401: sent without the header; 404: an empty part of a path makes another path
        assert answer.status_code in {401, 403, 404}
