"""The suite of stores beside a log: lists over all flows, odd ids, and an inbox that is lost while the log stays.

A backend's own tests give three fixtures: `stores`, new and empty, with runs that linger for LINGER_MS; `clock`, their
VirtualClock; and `lose`, an async function that empties their server.
"""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import pytest

from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope
from choreo.ports.backend import Stores
from choreo.ports.inbox import AttemptGrant, AttemptRequest, GateRow, GateSave, Outcome, RunMark
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC
from choreo.testing.conformance.inbox import outcome
from choreo.testing.conformance.projections import batch
from choreo.testing.conformance.read_model import view

LINGER_MS = 7 * 24 * 3_600_000
CHARGE = AttemptRequest("t-1", "charge", "r-1", "r-1")

Lose: TypeAlias = Callable[[], Awaitable[object]]


async def paged(stores: Stores, wanted: Filter, limit: int) -> list[InstanceView]:
    """Return every page of the list, one after the other."""
    items: list[InstanceView] = []
    cursor = ""
    while True:
        page = await stores.read_model.instances(wanted, limit, cursor)
        items += page.items
        cursor = page.cursor
        if not cursor:
            return items


async def certain(stores: Stores, trigger: str, certain_if: int) -> bool:
    """Return whether an outcome that is recorded now for this trigger is certain."""
    (published,) = await stores.inbox("payment").record([outcome(trigger=trigger, certain_if=certain_if)])
    return published.certain


class StoresSuite:
    """The behaviour of stores on a server of their own."""

    async def test_runs_of_one_millisecond_are_each_listed_once(self, stores: Stores) -> None:
        """List each once, also where there are more of them than several pages hold."""
        same = [msgspec.structs.replace(view(n), started_ms=7_000) for n in range(100, 200)]
        await stores.projections.save(batch(0, 1, view(5), *same, view(9)))
        listed = await paged(stores, Filter(flow=TOPIC), 3)
        assert [item.started_ms for item in listed] == [9_000, *[7_000] * 100, 5_000]
        assert {item.key for item in listed[1:-1]} == {item.key for item in same}

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_the_flows_are_listed_together(self, stores: Stores, limit: int) -> None:
        """Put the newest start first across flows, also where two flows have the same key and run."""
        for flow in ("order", "refund"):
            views = [msgspec.structs.replace(view(n), flow=flow) for n in range(1, 8)]
            await stores.projections.save(batch(0, 1, *views, topic=flow))
        listed = await paged(stores, Filter(), limit)
        assert [item.started_ms for item in listed] == [n * 1_000 for n in range(7, 0, -1) for _ in range(2)]
        assert len({(item.flow, item.key) for item in listed}) == 14

    async def test_a_filter_that_matches_few_rows_reads_to_the_end(self, stores: Stores) -> None:
        """Find the rows that have a status and an attribute, of which each stands in many others."""
        views = [
            view(n, status="stuck" if n % 2 else "running", city="Bern" if n % 2 else "Basel") for n in range(1, 300)
        ]
        rare = [view(400, status="stuck", city="Basel"), view(0, status="stuck", city="Basel")]
        await stores.projections.save(batch(0, 1, *views, *rare))
        listed = await paged(stores, Filter(flow=TOPIC, status="stuck", attributes={"city": "Basel"}), 1)
        assert [item.key for item in listed] == ["o-400", "o-0"]

    async def test_two_outcomes_of_one_attempt_in_a_batch(self, stores: Stores) -> None:
        """Keep the first, as between batches."""
        inbox = stores.inbox("payment")
        await inbox.begin([CHARGE])
        both = [outcome(certain_if=1), outcome("choreo.StepFailed"), outcome("PaymentCharged", success=True)]
        published = await inbox.record(both)
        assert [(e.type, e.certain) for e in published] == [("PaymentDeclined", True), ("PaymentCharged", False)]
        assert [e.type for e in (await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]] == ["PaymentDeclined"]

    @pytest.mark.parametrize("odd", ["a:b\0c é\n*\x1b0", "x" * 5_000, "%s {} '\""], ids=["bytes", "long", "quotes"])
    async def test_ids_may_hold_anything(self, stores: Stores, odd: str) -> None:
        """Take the ids and bytes that foreign producers choose."""
        inbox = stores.inbox("payment")
        full = Envelope(odd, "PaymentCharged", "o-1", TOPIC, odd, data=bytes(range(256)))
        assert await inbox.begin([AttemptRequest(odd, "charge", odd, odd)]) == [AttemptGrant(1)]
        assert await inbox.begin([AttemptRequest("other", "charge", odd, odd)]) == [AttemptGrant(0, slot_holder=odd)]
        await inbox.record([Outcome(odd, "charge", odd, [full], success=True)])
        assert await inbox.recorded([(odd, "charge")]) == {(odd, "charge"): (full,)}
        await inbox.mark({odd: RunMark(compensating=True)})
        assert await inbox.marks([odd]) == {odd: RunMark(compensating=True)}
        await inbox.keep_gates(GateSave("order", "a", {0: 1}, {odd: GateRow(0, 0, 0, b"\0")}))
        assert await inbox.gates("order", "a", [odd]) == {odd: b"\0"}

    async def test_after_the_inbox_is_lost_nothing_is_certain(self, stores: Stores, lose: Lose) -> None:
        """Doubt attempts of before, and those of now: whether one that begins is the first is unknown."""
        inbox = stores.inbox("payment")
        await inbox.begin([CHARGE])
        await lose()
        assert not await certain(stores, "t-1", 1), "begun before"
        assert await inbox.begin([AttemptRequest("t-2", "charge", "r-2")]) == [AttemptGrant(1)]
        assert not await certain(stores, "t-2", 1), "perhaps begun for the second time"
        assert not await certain(stores, "t-3", 0), "skipped, perhaps after an unknown attempt"
        assert not (await inbox.recorded([("t-3", "charge")]))["t-3", "charge"][0].certain

    async def test_doubt_ends_when_the_lost_entries_would_have_expired(
        self, stores: Stores, clock: VirtualClock, lose: Lose
    ) -> None:
        """Doubt as long as an ended run lingers."""
        await stores.inbox("payment").begin([CHARGE])
        await lose()
        await stores.inbox("payment").begin([CHARGE])
        await clock.advance(LINGER_MS / 1_000 - 1)
        assert not await certain(stores, "t-2", 0)
        await clock.advance(1)
        assert await certain(stores, "t-3", 0)

    async def test_lost_gates_are_not_taken_for_none(self, stores: Stores, lose: Lose) -> None:
        """Refuse until the process reads the position of its partition's gates, from which it folds them again."""
        inbox, save = stores.inbox("mail"), GateSave("order", "a", {0: 8}, {"o-1": GateRow(0, 7, 0, b"gates")})
        await inbox.keep_gates(save)
        await lose()
        with pytest.raises(LeaseLostError, match="lost the gates of partitions 0"):
            await inbox.gates("order", "a", ["o-1"])
        with pytest.raises(LeaseLostError, match="lost the gates of partitions 0"):
            await inbox.keep_gates(save)
        assert await inbox.gates_position("order", "a", 0) == 0
        assert await inbox.gates("order", "a", ["o-1"]) == {}
        await inbox.keep_gates(save)
        assert await inbox.gates("order", "a", ["o-1"]) == {"o-1": b"gates"}
