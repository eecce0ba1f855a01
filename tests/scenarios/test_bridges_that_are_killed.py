"""Bridges on one file are killed amid their work and restarted: nothing is lost, and nothing counts twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from tests.support.bridging import Two, orders_go_on, parcels_ship, project
from tests.support.carrying import FLOWS
from tests.support.fleet import Fleet
from tests.support.parcels_project import FLOWS as PARCELS


@pytest.mark.parametrize(
    ("flows", "played"), [(FLOWS, orders_go_on), (PARCELS, parcels_ship)], ids=["carried", "children"]
)
async def test_flows_go_on_while_bridges_are_killed_and_restarted(
    flows: tuple[str, ...], played: Callable[[Two], Awaitable[None]], in_a_file: Callable[[Sequence[str]], Fleet]
) -> None:
    """Each order has one invoice, and each box one parcel: what stands twice in a log has one id."""
    async with project(in_a_file(flows)) as two:
        await played(two)
