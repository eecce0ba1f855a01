"""The API keeps to its description with access control: schemathesis sends requests of all kinds in each role."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS

from choreo.core.access import Actor, Caller, Role
from choreo.ports.access import UnauthenticatedError
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.roles import ROUTES, Need, Within
from tests.surfaces.rest.tracked import excluded, tracked_app


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


tracked = tracked_app(lambda clock: AccessControl([Named()], clock))
VIEWER = {"Authorization": "Bearer viewer"}
schema = schemathesis.openapi.from_asgi("/openapi.json", tracked, headers=VIEWER)
# test_openapi has the phase of every boundary; here each answer is a refusal, or that of a plain read.
schema.config.phases.update(phases=["examples", "fuzzing"])
# It sends wrong credentials, which block its address for all that follows; test_access has these cases.
EXCLUDED: list[Any] = CHECKS.get_by_names(["ignored_auth"])


@pytest.mark.parametrize("role", Role, ids=lambda role: role.shown)
@schema.parametrize()
@settings(max_examples=1, suppress_health_check=list(HealthCheck))
def test_a_role_reaches_its_routes_and_no_others(case: Case, role: Role) -> None:
    """Of all requests: each answer is a described one, and no request is accepted that needs another role."""
    if (case.headers or {}).get("choreo-position") == "0":
        return  # schemathesis's coverage phase takes a bare 0 to fit the header's pattern
    headers = {"Authorization": f"Bearer {role.shown}"}
    answer = case.call_and_validate(headers=headers, excluded_checks=[*EXCLUDED, *excluded(case)])
    need = ROUTES.get(f"{case.method.upper()} {case.path}", Need(Role.VIEWER, Within.ANY))
    if need.role > role:
        # 401: sent without the header; 404: an empty part of a path makes another path
        assert answer.status_code in {401, 403, 404}
