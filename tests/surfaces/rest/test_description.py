"""The API's description of a parameter agrees with the checks."""

from __future__ import annotations

from typing import Any

import pytest

from choreo.surfaces.rest import UseCases, create_app
from tests.app.harness import Shop

BOUNDS = {
    ("/dead-letters", "limit"): (1, 500),
    ("/flows/{flow}/instances", "limit"): (1, 500),
    ("/flows/{flow}/instances/{key}/history", "limit"): (1, 10_000),
    ("/flows/{flow}/instances/{key}/history", "after_offset"): (-1, 2**53),
}


@pytest.mark.parametrize(("path", "name"), BOUNDS)
async def test_the_description_has_the_bounds_of_a_number(path: str, name: str) -> None:
    """A client made from the description knows the refusals before it asks."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    parameters: list[dict[str, Any]] = app.openapi()["paths"][path]["get"]["parameters"]
    schema = next(parameter["schema"] for parameter in parameters if parameter["name"] == name)
    assert (schema["minimum"], schema["maximum"]) == BOUNDS[path, name]
