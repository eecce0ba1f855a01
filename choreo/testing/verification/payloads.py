"""Payloads that matter: for each event with conditions or moments, one payload for each verdict that is possible.

A condition is data, so that its fields can be tried with the values that it names and those between and beyond them.
"""

from __future__ import annotations

import json

from choreo.core.flow_table import FlowTable
from choreo.testing.verification.routing import MOMENTS

_MOMENT = "2100-01-01T00:00:00+00:00"


def payloads_of(table: FlowTable) -> dict[str, tuple[bytes, ...]]:
    """Return type → the payloads to try; a type whose fields nobody looks at has an empty one."""
    found: dict[str, tuple[bytes, ...]] = {}
    for type_, fields in table.moments.items():
        found[type_] = (json.dumps({MOMENTS: dict.fromkeys(fields, _MOMENT)}).encode(),)
    return found
