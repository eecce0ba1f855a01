"""A rebuild is compared with the shown views first: a true status is not changed without a report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.tracking.rebuild import changes, refusal
from choreo.core.definition import FlowDefinition
from choreo.core.flow_table import FlowTable
from choreo.hosts.tracker import TrackerHost
from choreo.testing import EventLike, foreign, given
from choreo.testing.clock import VirtualClock
from tests.core.order import PICKED
from tests.core.plain import CHARGE

PAID: tuple[EventLike, ...] = ("OrderPlaced", "StockReserved", "PaymentCharged")
TALES: dict[str, tuple[EventLike, ...]] = {
    "running": PAID,
    "completed": (*PAID, foreign("Picked"), "OrderConfirmed"),
    "compensated": (*PAID, "choreo.CancelRequested", "PaymentRefunded", "StockReleased"),
    "terminated": (*PAID, "choreo.FlowTerminated"),
}


async def shown(*tales: str, known: Mapping[str, Sequence[EventLike]] = TALES) -> MemoryBackend:
    """Return a log with one order for each of these tales, and the read model that a tracker has made of it."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create("order", 2)
    for tale in tales:
        for record in given(PICKED, *known[tale], key=tale).log:
            await backend.log.append("order", [record.event])
    host = TrackerHost(PICKED, backend.log, backend.states, clock, name="t", attributes_of=lambda _: {})
    task = asyncio.create_task(host.run())
    ends = {number: await backend.log.end("order", number) for number in range(2)}
    while await backend.read_model.positions("order") != {number: end for number, end in ends.items() if end}:
        await clock.advance(0.01)
    await host.stop()
    while not task.done():
        await clock.advance(0.1)
    return backend


def with_charge(**fields: object) -> FlowDefinition:
    """Return the flow with this changed about the charge."""
    return replace(PICKED, steps=tuple(replace(s, **fields) if s.name == CHARGE.name else s for s in PICKED.steps))


async def test_the_same_declaration_changes_nothing() -> None:
    """The log alone holds the truth."""
    backend = await shown(*TALES)
    assert await changes(FlowTable(PICKED), backend.log, backend.read_model) == []


async def test_a_renamed_step_changes_nothing_that_is_true() -> None:
    """Its effects are shown under its new name."""
    backend = await shown(*TALES)
    assert await changes(FlowTable(with_charge(name="payment.charge_card")), backend.log, backend.read_model) == []


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"compensation": None}, set(TALES)),
        ({"emits": ("MoneyTaken",), "fails": ("PaymentCharged",)}, set(TALES)),
        ({"effect": False}, set(TALES)),
    ],
    ids=["no compensation", "a success that is a failure", "no effect"],
)
async def test_what_would_be_shown_otherwise_is_listed(fields: dict[str, object], changed: set[str]) -> None:
    """With both sides, so that a person can judge it. An end in the log stays an end."""
    backend = await shown(*TALES)
    found = await changes(FlowTable(with_charge(**fields)), backend.log, backend.read_model)
    assert {change.key for change in found} == changed
    for change in found:
        if change.key != "running":
            assert change.shown.split()[0] == change.folded.split()[0] == change.key
    error = refusal("order", found)
    assert f"change {len(found)} {'instance:' if len(found) == 1 else 'instances:'}" in error.what
    assert all(str(change) in str(error) for change in found)
    assert "--accept-changes" in error.remedy


async def test_a_run_whose_start_is_no_start_any_more_is_listed() -> None:
    """A rebuild would lose it."""
    backend = await shown("completed")
    (change,) = await changes(FlowTable(replace(PICKED, starts="CartClosed")), backend.log, backend.read_model)
    assert change.folded == "unknown" or change.folded.startswith("truncated")
