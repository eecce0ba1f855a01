"""The pages, one module each. A module has a `router`, its `ROLES` by route, and is listed in `PAGES`.

A new page is a module, a template, its line in `PAGES`, and its entry in `NAV` or, of one instance, in `TABS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choreo.surfaces.rest.roles import Need
from choreo.surfaces.web.pages import (
    actions,
    audit,
    batches,
    changes_of_run,
    dead_letters,
    events,
    flows,
    graph,
    groups,
    history,
    instance,
    instances,
    login,
    preview,
    publish,
    run_timeline,
    stalled,
    stream,
    views,
)
from choreo.surfaces.web.rendering import Entry

PAGES: Sequence[Any] = (
    flows,
    instances,
    instance,
    history,
    graph,
    batches,
    run_timeline,
    changes_of_run,
    preview,
    actions,
    publish,
    dead_letters,
    audit,
    views,
    stream,
    groups,
    stalled,
    events,
    login,
)

NAV: Sequence[Entry] = (
    Entry("Flows", ("flows",)),
    Entry("Stalled", ("stalled",)),
    Entry("Dead letters", ("dead-letters",)),
    Entry("Groups", ("groups",)),
    Entry("Events", ("events",)),
    Entry("Audit", ("audit",)),
)
"""The navigation, in its order."""

ROLES: Mapping[str, Need] = {name: need for page in PAGES for name, need in page.ROLES.items()}
"""The role of each route; a route without one is refused to everybody."""
