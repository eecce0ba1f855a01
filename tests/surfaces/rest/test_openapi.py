"""The API keeps to its description: schemathesis sends all kinds of requests, in this process."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case

from tests.surfaces.rest.tracked import excluded, tracked_app

schema = schemathesis.openapi.from_asgi("/openapi.json", tracked_app())


@schema.parametrize()
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_the_api_does_what_its_description_says(case: Case) -> None:
    """Every route, with good and bad requests, all of schemathesis's checks."""
    if (case.headers or {}).get("choreo-position") == "0":
        return  # schemathesis's coverage phase takes a bare 0 to fit the header's pattern
    case.call_and_validate(excluded_checks=excluded(case))
