"""The suite of the inbox port, which makes a redelivered trigger harmless."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.events import Envelope
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, GateRow, GateSave, Outcome, RunMark
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import Backend, event

MINE, YOURS = AttemptLease("process-1", 60_000), AttemptLease("process-10", 60_000)
MOMENT_MS = 20
"""A lease that is to expire; on a store that keeps its own time the test waits for it."""
LOOKS = 5_000
"""At most, for its end: a server measures it by its own clock, and answers within a fraction of a millisecond."""


def outcome(
    type_: str = "PaymentDeclined", *, trigger: str = "t-1", certain_if: int = -1, success: bool = False
) -> Outcome:
    """Return the outcome of a trigger's step."""
    return Outcome(trigger, "charge", "r-1", [event(f"{trigger}-out", type_=type_)], success, certain_if)


class InboxSuite:
    """The memory of an inbox."""

    async def test_attempts_are_counted(self, backend: Backend) -> None:
        """Count by (trigger, step), also within one batch; answer in the same order."""
        inbox = backend.inbox("payment")
        again = [
            AttemptRequest("t-1", "charge", "r-1"),
            AttemptRequest("t-1", "audit", "r-1"),
            AttemptRequest("t-1", "charge", "r-1"),
        ]
        assert await inbox.begin([AttemptRequest("t-1", "charge", "r-1")]) == [AttemptGrant(1)]
        assert await inbox.begin(again) == [AttemptGrant(2), AttemptGrant(1), AttemptGrant(3)]
        assert await inbox.begin([]) == []

    async def test_services_do_not_know_each_other(self, backend: Backend) -> None:
        """Keep each service's memory separate."""
        await backend.inbox("payment").begin([AttemptRequest("t-1", "charge", "r-1", "r-1")])
        await backend.inbox("payment").record([outcome()])
        await backend.inbox("payment").mark({"r-1": RunMark(compensating=True)})
        shipping = backend.inbox("shipping")
        assert await shipping.begin([AttemptRequest("t-2", "charge", "r-1", "r-1")]) == [AttemptGrant(1)]
        assert await shipping.recorded([("t-1", "charge")]) == {}
        assert await shipping.marks(["r-1"]) == {}

    async def test_a_slot_belongs_to_the_first_trigger_of_the_run(self, backend: Backend) -> None:
        """Give the slot once, also within one batch; let its holder begin again."""
        inbox = backend.inbox("payment")
        both = [AttemptRequest("t-1", "charge", "r-1", "r-1"), AttemptRequest("t-2", "charge", "r-1", "r-1")]
        assert await inbox.begin(both) == [AttemptGrant(1), AttemptGrant(0, slot_holder="t-1")]
        assert await inbox.begin(both) == [AttemptGrant(2), AttemptGrant(0, slot_holder="t-1")]
        others = [AttemptRequest("t-2", "audit", "r-1", "r-1"), AttemptRequest("t-3", "charge", "r-2", "r-2")]
        assert await inbox.begin(others) == [AttemptGrant(1), AttemptGrant(1)]
        assert await inbox.begin([AttemptRequest("t-2", "charge", "r-1")]) == [AttemptGrant(1)], (
            "a step on a cycle takes no slot"
        )

    async def test_a_step_with_an_outcome_does_not_start(self, backend: Backend) -> None:
        """Return the outcome, to be published again."""
        inbox = backend.inbox("payment")
        await inbox.begin([AttemptRequest("t-1", "charge", "r-1")])
        (published,) = await inbox.record([outcome()])
        assert await inbox.begin([AttemptRequest("t-1", "charge", "r-1")]) == [AttemptGrant(0, recorded=(published,))]
        recorded = await inbox.recorded([("t-1", "charge"), ("t-1", "audit"), ("t-9", "charge")])
        assert {key: list(events) for key, events in recorded.items()} == {("t-1", "charge"): [published]}

    async def test_an_attempt_with_a_lease_of_another_process_does_not_start(self, backend: Backend) -> None:
        """Count no attempt; let the holder begin again, and anybody after the lease."""
        inbox = backend.inbox("payment")
        charge, audit = AttemptRequest("t-1", "charge", "r-1", "r-1"), AttemptRequest("t-1", "audit", "r-1")
        assert await inbox.begin([charge], MINE) == [AttemptGrant(1)]
        held, free = await inbox.begin([charge, audit], YOURS)
        assert (held.count, 0 < held.held_ms <= MINE.lease_ms, free) == (0, True, AttemptGrant(1))
        (unnamed,) = await inbox.begin([charge])
        assert unnamed.held_ms
        assert await inbox.begin([charge], MINE) == [AttemptGrant(2)]

    async def test_a_taken_slot_is_reported_before_a_lease(self, backend: Backend) -> None:
        """Ignore a second trigger of the run, also while another holder has the first."""
        inbox = backend.inbox("payment")
        await inbox.begin([AttemptRequest("t-1", "charge", "r-1", "r-1")], MINE)
        second = AttemptRequest("t-2", "charge", "r-1", "r-1")
        assert await inbox.begin([second], YOURS) == [AttemptGrant(0, slot_holder="t-1")]

    async def test_a_lease_expires_unless_it_is_renewed(self, backend: Backend, clock: VirtualClock) -> None:
        """Count the holder as dead then, and the next process's attempt as one more."""
        inbox, short = backend.inbox("payment"), replace(MINE, lease_ms=MOMENT_MS)
        renewed, left = AttemptRequest("t-1", "charge", "r-1"), AttemptRequest("t-2", "charge", "r-2")
        await inbox.begin([renewed, left], short)
        await inbox.renew([("t-1", "charge")], MINE)
        for _ in range(LOOKS):
            (answer,) = await inbox.begin([left], YOURS)
            if answer.count:
                break
            assert 0 < answer.held_ms <= MOMENT_MS
            await clock.advance(MOMENT_MS / 4_000)
        assert answer == AttemptGrant(2)
        (still,) = await inbox.begin([renewed], YOURS)
        assert still.held_ms > MOMENT_MS

    async def test_a_released_attempt_starts_at_once(self, backend: Backend) -> None:
        """Release a lease renewed for 0 ms; ignore another holder's renewal, and one of an unknown attempt."""
        inbox, charge = backend.inbox("payment"), AttemptRequest("t-1", "charge", "r-1")
        await inbox.begin([charge], MINE)
        keys = [("t-1", "charge"), ("t-9", "charge")]
        await inbox.renew(keys, replace(YOURS, lease_ms=0))
        assert (await inbox.begin([charge], YOURS))[0].held_ms
        await inbox.renew([], MINE)
        await inbox.renew(keys, replace(MINE, lease_ms=0))
        assert await inbox.begin([charge, AttemptRequest("t-9", "charge", "r-9")], YOURS) == [
            AttemptGrant(2),
            AttemptGrant(1),
        ]
        await inbox.renew(keys, MINE)
        assert (await inbox.begin([charge], MINE))[0].held_ms, "another holder has it now"

    async def test_an_outcome_ends_the_lease(self, backend: Backend) -> None:
        """Return it to the next attempt; let a later renewal hold nothing."""
        inbox = backend.inbox("payment")
        await inbox.begin([AttemptRequest("t-1", "charge", "r-1")], MINE)
        (published,) = await inbox.record([outcome(certain_if=1)])
        await inbox.renew([("t-1", "charge")], MINE)
        assert published.certain
        assert await inbox.begin([AttemptRequest("t-1", "charge", "r-1")], YOURS) == [
            AttemptGrant(0, recorded=(published,))
        ]

    async def test_an_outcome_of_no_event_is_an_outcome(self, backend: Backend) -> None:
        """Record it without events, and publish nothing."""
        inbox = backend.inbox("payment")
        assert list(await inbox.record([Outcome("t-1", "charge", "r-1", [], success=True)])) == []
        assert await inbox.begin([AttemptRequest("t-1", "charge", "r-1")]) == [AttemptGrant(0)]

    @pytest.mark.parametrize(
        ("begun", "certain_if", "certain"),
        [(1, 1, True), (2, 1, False), (0, 1, False), (0, 0, True), (1, 0, False), (1, -1, False), (0, -1, False)],
    )
    async def test_certain_is_decided_by_the_attempts_begun(
        self, backend: Backend, begun: int, certain_if: int, *, certain: bool
    ) -> None:
        """Treat (0, 1) as an inbox that lost its memory: nothing is certain then."""
        inbox = backend.inbox("payment")
        await inbox.begin([AttemptRequest("t-1", "charge", "r-1")] * begun)
        (published,) = await inbox.record([outcome(certain_if=certain_if)])
        assert published.certain is certain
        recorded = await inbox.recorded([("t-1", "charge")])
        assert [e.certain for e in recorded["t-1", "charge"]] == [certain]

    async def test_the_first_outcome_stands(self, backend: Backend) -> None:
        """Publish the same outcome again as recorded; publish another only if it is a success, without recording it."""
        inbox = backend.inbox("payment")
        await inbox.begin([AttemptRequest("t-1", "charge", "r-1")])
        first = await inbox.record([outcome(certain_if=1)])
        await_same = await inbox.record([outcome(certain_if=-1)])
        assert list(await_same) == list(first)
        assert list(await inbox.record([outcome("choreo.StepFailed")])) == []
        (late,) = await inbox.record([outcome("PaymentCharged", success=True)])
        assert late.type == "PaymentCharged"
        assert list((await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]) == list(first)

    async def test_an_outcome_survives_whole(self, backend: Backend) -> None:
        """Keep payload and headers, also those that are no text."""
        full = Envelope("o-1", "PaymentCharged", "o-1", "order", "r-1", n=3, reason="é", data=b"\x00\xff")
        inbox = backend.inbox("payment")
        await inbox.record([Outcome("t-1", "charge", "r-1", [full, event("second")], success=True)])
        assert list((await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]) == [full, event("second")]

    async def test_marks_add_up(self, backend: Backend) -> None:
        """Keep each mark; of the pause series the highest number counts."""
        inbox = backend.inbox("payment")
        await inbox.mark({"r-1": RunMark(compensating=True), "r-2": RunMark(paused=True, pause_n=2)})
        await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(paused=False, pause_n=1)})
        assert await inbox.marks(["r-1", "r-2", "r-3"]) == {
            "r-1": RunMark(compensating=True, ended=True),
            "r-2": RunMark(paused=True, pause_n=2),
        }
        await inbox.mark({"r-2": RunMark(paused=False, pause_n=3)})
        assert (await inbox.marks(["r-2"]))["r-2"] == RunMark(pause_n=3)

    async def test_the_lowest_offset_of_a_stop_is_kept(self, backend: Backend) -> None:
        """Keep the lowest offset in any order of reading; a stop without an offset gets none later."""
        inbox = backend.inbox("payment")
        for run, *places in [("r-1", 7, 9), ("r-2", 9, 7), ("r-3", -1, 9)]:
            for place in places:
                await inbox.mark({run: RunMark(compensating=True, stopped_at=place)})
        await inbox.mark({"r-1": RunMark(ended=True, stopped_at=12)})
        await inbox.mark({"r-4": RunMark(paused=True, pause_n=1)})
        await inbox.mark({"r-4": RunMark(compensating=True, paused=True, pause_n=1, stopped_at=0)})
        assert await inbox.marks(["r-1", "r-2", "r-3", "r-4"]) == {
            "r-1": RunMark(compensating=True, ended=True, stopped_at=7),
            "r-2": RunMark(compensating=True, stopped_at=7),
            "r-3": RunMark(compensating=True),
            "r-4": RunMark(compensating=True, paused=True, pause_n=1, stopped_at=0),
        }

    async def test_a_mark_of_a_run_is_returned_before_an_attempt_begins(self, backend: Backend) -> None:
        """Return the mark to an `unmarked` request: then no attempt is counted and no slot taken."""
        inbox = backend.inbox("payment")
        await inbox.mark({"r-1": RunMark(compensating=True), "r-2": RunMark(paused=False, pause_n=2)})
        careful = [AttemptRequest(f"t-{run}", "charge", run, run, unmarked=True) for run in ("r-1", "r-2", "r-3")]
        answers = [
            AttemptGrant(0, mark=RunMark(compensating=True)),
            AttemptGrant(0, mark=RunMark(pause_n=2)),
            AttemptGrant(1),
        ]
        assert await inbox.begin(careful) == answers
        assert await inbox.begin([AttemptRequest("u-1", "charge", "r-1", "r-1")]) == [AttemptGrant(1)]

    async def test_ended_runs_are_forgotten_in_time(self, backend: Backend, clock: VirtualClock) -> None:
        """Drop them with their entries and slots; never drop open runs."""
        inbox = backend.inbox("payment")
        for run in ("r-1", "r-2"):
            await inbox.begin(
                [AttemptRequest(f"t-{run}", "charge", run, run), AttemptRequest(f"u-{run}", "audit", run)]
            )
        await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(compensating=True)})
        await inbox.mark({"r-1": RunMark(compensating=True)})
        assert await inbox.forget(clock.now_ms()) == 0
        await clock.advance(1)
        assert await inbox.forget(clock.now_ms()) == 2
        assert await inbox.marks(["r-1", "r-2"]) == {"r-2": RunMark(compensating=True)}
        assert await inbox.begin([AttemptRequest("t-9", "charge", "r-1", "r-1")]) == [AttemptGrant(1)]
        assert await inbox.begin([AttemptRequest("t-9", "charge", "r-2", "r-2")]) == [
            AttemptGrant(0, slot_holder="t-r-2")
        ]

    async def test_gates_are_kept_by_flow_declaration_and_key(self, backend: Backend) -> None:
        """Keep gates apart by flow, by declaration and by service."""
        inbox, key = backend.inbox("mail"), "o-1 é:*"
        assert await inbox.gates("order", "a", [key]) == {}
        assert await inbox.gates_position("order", "a", 3) == 0
        await inbox.keep_gates(GateSave("order", "a", {3: 8, 4: 1}, {key: GateRow(3, 7, 0, b"\x00\xff")}))
        assert await inbox.gates("order", "a", [key, "o-2"]) == {key: b"\x00\xff"}
        assert [await inbox.gates_position("order", "a", partition) for partition in (3, 4, 5)] == [8, 1, 0]
        assert await inbox.gates("order", "b", [key]) == await inbox.gates("other", "a", [key]) == {}
        assert await inbox.gates_position("order", "b", 3) == await inbox.gates_position("other", "a", 3) == 0
        assert await backend.inbox("post").gates("order", "a", [key]) == {}

    async def test_older_gates_change_nothing(self, backend: Backend) -> None:
        """Ignore a late write of a process taken for dead; accept the same position again, for its new answers."""
        inbox = backend.inbox("mail")
        for position, state, kept in ((7, b"7", b"7"), (5, b"5", b"7"), (7, b"7 answered", b"7 answered")):
            await inbox.keep_gates(GateSave("order", "a", {0: position + 1}, {"o-1": GateRow(0, position, 0, state)}))
            assert await inbox.gates("order", "a", ["o-1"]) == {"o-1": kept}
        assert await inbox.gates_position("order", "a", 0) == 8

    async def test_gates_are_forgotten_some_time_after_the_last_run_of_the_key(
        self, backend: Backend, clock: VirtualClock
    ) -> None:
        """Keep the gates of a key with an open run, also where it was without one before."""
        inbox, ended_ms = backend.inbox("mail"), clock.now_ms()
        ended = {key: GateRow(0, 1, ended_ms, b"ended") for key in ("o-1", "o-2")}
        await inbox.keep_gates(GateSave("order", "a", {0: 2}, ended))
        await inbox.keep_gates(GateSave("order", "a", {0: 3}, {"o-2": GateRow(0, 2, 0, b"open again")}))
        await clock.advance(1)
        await inbox.forget(clock.now_ms())
        assert "o-2" in await inbox.gates("order", "a", ["o-1", "o-2"])
