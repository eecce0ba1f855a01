"""The role that each route needs, in one table. A route without an entry is refused to everybody.

A test holds the table against the routes of the application.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from choreo.core.access import Role


class Within(Enum):
    """The flows in which the role is needed."""

    FLOW = "the flow in the path"
    ANY = "at least one flow; the route shows only those in which the caller has it"
    EVERY = "every flow"
    NONE = "none: everybody may ask"


class Need(NamedTuple):
    """The role that a route needs, and where."""

    role: Role
    within: Within = Within.FLOW


OPEN: Need = Need(Role.VIEWER, Within.NONE)
METRICS = "GET /metrics"

_FLOW = "/flows/{flow}"
_INSTANCE = f"{_FLOW}/instances/{{key}}"
_VIEW_ANY = Need(Role.VIEWER, Within.ANY)
_VIEW, _PUBLISH, _OPERATE, _ADMIN = map(Need, Role)

# The page's own files hold nothing of any flow; /openapi.json does.
ROUTES: Mapping[str, Need] = {
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
    METRICS: Need(Role.VIEWER, Within.EVERY),
    "GET /": OPEN,
    "GET /docs": OPEN,
    "GET /docs/swagger-ui-bundle.js": OPEN,
    "GET /docs/swagger-ui.css": OPEN,
    "GET /docs/favicon-32x32.png": OPEN,
    "GET /openapi.json": _VIEW_ANY,
    "GET /flows": _VIEW_ANY,
    "GET /groups": _VIEW_ANY,
    "GET /events": _VIEW_ANY,
    "GET /dead-letters": _VIEW_ANY,
    "GET /dead-letters/{dead_letter}": _VIEW_ANY,
    "GET /dead-letters/{dead_letter}/preview": _VIEW_ANY,
    "POST /dead-letters/{dead_letter}/redrive": Need(Role.ADMIN, Within.ANY),
    f"GET {_FLOW}": _VIEW,
    f"GET {_FLOW}/mermaid": _VIEW,
    f"GET {_FLOW}/audit": _VIEW,
    f"GET {_FLOW}/groups/{{group}}": _VIEW,
    f"GET {_FLOW}/groups/{{group}}/partitions/{{partition}}/runs": _VIEW,
    f"GET {_FLOW}/event-types": _VIEW,
    f"GET {_FLOW}/stalled": _VIEW,
    f"GET {_FLOW}/timers": _VIEW,
    f"GET {_FLOW}/dead-letter-groups": _VIEW,
    f"GET {_FLOW}/batches": _VIEW,
    f"GET {_FLOW}/batches/{{batch}}": _VIEW,
    f"POST {_FLOW}/batches/preview": _OPERATE,
    f"POST {_FLOW}/batches": _OPERATE,
    f"POST {_FLOW}/batches/{{batch}}/stop": _OPERATE,
    f"POST {_FLOW}/batches/{{batch}}/resume": _OPERATE,
    f"GET {_FLOW}/instances": _VIEW,
    f"GET {_INSTANCE}": _VIEW,
    f"GET {_INSTANCE}/history": _VIEW,
    f"GET {_INSTANCE}/timeline": _VIEW,
    f"GET {_INSTANCE}/children": _VIEW,
    f"GET {_INSTANCE}/events": _VIEW,
    f"GET {_INSTANCE}/changes": _VIEW,
    f"GET {_INSTANCE}/why": _VIEW,
    f"GET {_INSTANCE}/preview": _VIEW,
    f"POST {_FLOW}/events": _PUBLISH,
    f"POST {_INSTANCE}/pause": _OPERATE,
    f"POST {_INSTANCE}/resume": _OPERATE,
    f"POST {_INSTANCE}/cancel": _OPERATE,
    f"POST {_INSTANCE}/compensations/{{entry}}/retry": _OPERATE,
    f"POST {_INSTANCE}/terminate": _ADMIN,
    f"POST {_INSTANCE}/compensations/{{entry}}/resolve": _ADMIN,
}
