"""The suite of the inbox port: what makes a redelivered trigger harmless."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core.events import Envelope
from choreo.ports.inbox import Begin, Begun, GateRow, GateSave, Hold, Outcome, RunMark
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import Home, event

MINE, YOURS = Hold("process-1", 60_000), Hold("process-10", 60_000)
MOMENT_MS = 20
"""Of a hold that is to lapse; on a store that keeps its own time it is waited for."""


def outcome(
    type_: str = "PaymentDeclined", *, trigger: str = "t-1", certain_if: int = -1, success: bool = False
) -> Outcome:
    """What came of a trigger's step."""
    return Outcome(trigger, "charge", "r-1", [event(f"{trigger}-out", type_=type_)], success, certain_if)


class InboxSuite:
    """What an inbox remembers."""

    async def test_attempts_are_counted(self, home: Home) -> None:
        """Of (trigger, step), also within one batch, answered in the order given."""
        inbox = home.inbox("payment")
        again = [Begin("t-1", "charge", "r-1"), Begin("t-1", "audit", "r-1"), Begin("t-1", "charge", "r-1")]
        assert await inbox.begin([Begin("t-1", "charge", "r-1")]) == [Begun(1)]
        assert await inbox.begin(again) == [Begun(2), Begun(1), Begun(3)]
        assert await inbox.begin([]) == []

    async def test_services_do_not_know_each_other(self, home: Home) -> None:
        """The service is part of what is remembered."""
        await home.inbox("payment").begin([Begin("t-1", "charge", "r-1", "r-1")])
        await home.inbox("payment").record([outcome()])
        await home.inbox("payment").mark({"r-1": RunMark(turned=True)})
        shipping = home.inbox("shipping")
        assert await shipping.begin([Begin("t-2", "charge", "r-1", "r-1")]) == [Begun(1)]
        assert await shipping.recorded([("t-1", "charge")]) == {}
        assert await shipping.marks(["r-1"]) == {}

    async def test_a_slot_belongs_to_the_first_trigger_of_the_run(self, home: Home) -> None:
        """Also within one batch; the holder itself may begin again."""
        inbox = home.inbox("payment")
        both = [Begin("t-1", "charge", "r-1", "r-1"), Begin("t-2", "charge", "r-1", "r-1")]
        assert await inbox.begin(both) == [Begun(1), Begun(0, slot_holder="t-1")]
        assert await inbox.begin(both) == [Begun(2), Begun(0, slot_holder="t-1")]
        others = [Begin("t-2", "audit", "r-1", "r-1"), Begin("t-3", "charge", "r-2", "r-2")]
        assert await inbox.begin(others) == [Begun(1), Begun(1)]
        assert await inbox.begin([Begin("t-2", "charge", "r-1")]) == [Begun(1)], "a step on a cycle takes no slot"

    async def test_what_has_an_outcome_does_not_start(self, home: Home) -> None:
        """The outcome is given back, to be published again."""
        inbox = home.inbox("payment")
        await inbox.begin([Begin("t-1", "charge", "r-1")])
        (published,) = await inbox.record([outcome()])
        assert await inbox.begin([Begin("t-1", "charge", "r-1")]) == [Begun(0, recorded=(published,))]
        recorded = await inbox.recorded([("t-1", "charge"), ("t-1", "audit"), ("t-9", "charge")])
        assert {key: list(events) for key, events in recorded.items()} == {("t-1", "charge"): [published]}

    async def test_what_another_process_holds_does_not_start(self, home: Home) -> None:
        """It is not counted; the holder itself may begin again, and everybody what nobody holds."""
        inbox = home.inbox("payment")
        charge, audit = Begin("t-1", "charge", "r-1", "r-1"), Begin("t-1", "audit", "r-1")
        assert await inbox.begin([charge], MINE) == [Begun(1)]
        held, free = await inbox.begin([charge, audit], YOURS)
        assert (held.count, 0 < held.held_ms <= MINE.lease_ms, free) == (0, True, Begun(1))
        (unnamed,) = await inbox.begin([charge])
        assert unnamed.held_ms
        assert await inbox.begin([charge], MINE) == [Begun(2)]

    async def test_a_slot_is_told_before_a_hold(self, home: Home) -> None:
        """A second trigger of the run is ignored, whoever is at the first."""
        inbox = home.inbox("payment")
        await inbox.begin([Begin("t-1", "charge", "r-1", "r-1")], MINE)
        second = Begin("t-2", "charge", "r-1", "r-1")
        assert await inbox.begin([second], YOURS) == [Begun(0, slot_holder="t-1")]

    async def test_a_hold_lapses_unless_it_is_renewed(self, home: Home, clock: VirtualClock) -> None:
        """Then its process counts as dead, and the attempt of the next one as one more."""
        inbox, short = home.inbox("payment"), replace(MINE, lease_ms=MOMENT_MS)
        renewed, left = Begin("t-1", "charge", "r-1"), Begin("t-2", "charge", "r-2")
        await inbox.begin([renewed, left], short)
        await inbox.renew([("t-1", "charge")], MINE)
        while not (answer := (await inbox.begin([left], YOURS))[0]).count:
            assert 0 < answer.held_ms <= MOMENT_MS
            await clock.advance(MOMENT_MS / 4_000)
        assert answer == Begun(2)
        (still,) = await inbox.begin([renewed], YOURS)
        assert still.held_ms > MOMENT_MS

    async def test_what_is_let_go_starts_at_once(self, home: Home) -> None:
        """A hold renewed for no time is over; a stranger's word changes nothing, nor one about what never began."""
        inbox, charge = home.inbox("payment"), Begin("t-1", "charge", "r-1")
        await inbox.begin([charge], MINE)
        keys = [("t-1", "charge"), ("t-9", "charge")]
        await inbox.renew(keys, replace(YOURS, lease_ms=0))
        assert (await inbox.begin([charge], YOURS))[0].held_ms
        await inbox.renew([], MINE)
        await inbox.renew(keys, replace(MINE, lease_ms=0))
        assert await inbox.begin([charge, Begin("t-9", "charge", "r-9")], YOURS) == [Begun(2), Begun(1)]
        await inbox.renew(keys, MINE)
        assert (await inbox.begin([charge], MINE))[0].held_ms, "it is in other hands now"

    async def test_an_outcome_ends_the_hold(self, home: Home) -> None:
        """Whoever begins finds it; a renewal that comes after it holds nothing."""
        inbox = home.inbox("payment")
        await inbox.begin([Begin("t-1", "charge", "r-1")], MINE)
        (published,) = await inbox.record([outcome(certain_if=1)])
        await inbox.renew([("t-1", "charge")], MINE)
        assert published.certain
        assert await inbox.begin([Begin("t-1", "charge", "r-1")], YOURS) == [Begun(0, recorded=(published,))]

    async def test_an_outcome_of_no_event_is_an_outcome(self, home: Home) -> None:
        """It is recorded as nothing, and nothing is published."""
        inbox = home.inbox("payment")
        assert list(await inbox.record([Outcome("t-1", "charge", "r-1", [], success=True)])) == []
        assert await inbox.begin([Begin("t-1", "charge", "r-1")]) == [Begun(0)]

    @pytest.mark.parametrize(
        ("begun", "certain_if", "certain"),
        [(1, 1, True), (2, 1, False), (0, 1, False), (0, 0, True), (1, 0, False), (1, -1, False), (0, -1, False)],
    )
    async def test_certain_is_settled_by_what_had_begun(
        self, home: Home, begun: int, certain_if: int, *, certain: bool
    ) -> None:
        """(0, 1) is an inbox that has lost its memory: nothing is certain then."""
        inbox = home.inbox("payment")
        await inbox.begin([Begin("t-1", "charge", "r-1")] * begun)
        (published,) = await inbox.record([outcome(certain_if=certain_if)])
        assert published.certain is certain
        recorded = await inbox.recorded([("t-1", "charge")])
        assert [e.certain for e in recorded["t-1", "charge"]] == [certain]

    async def test_the_first_outcome_stands(self, home: Home) -> None:
        """The same again is published as recorded; another only if it is a success, and then recorded it is not."""
        inbox = home.inbox("payment")
        await inbox.begin([Begin("t-1", "charge", "r-1")])
        first = await inbox.record([outcome(certain_if=1)])
        await_same = await inbox.record([outcome(certain_if=-1)])
        assert list(await_same) == list(first)
        assert list(await inbox.record([outcome("choreo.StepFailed")])) == []
        (late,) = await inbox.record([outcome("PaymentCharged", success=True)])
        assert late.type == "PaymentCharged"
        assert list((await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]) == list(first)

    async def test_an_outcome_survives_whole(self, home: Home) -> None:
        """Payload and headers, also where they are no text."""
        full = Envelope("o-1", "PaymentCharged", "o-1", "order", "r-1", n=3, reason="é", data=b"\x00\xff")
        inbox = home.inbox("payment")
        await inbox.record([Outcome("t-1", "charge", "r-1", [full, event("second")], success=True)])
        assert list((await inbox.recorded([("t-1", "charge")]))["t-1", "charge"]) == [full, event("second")]

    async def test_marks_add_up(self, home: Home) -> None:
        """What has been read once stays; of the pause series the highest number counts."""
        inbox = home.inbox("payment")
        await inbox.mark({"r-1": RunMark(turned=True), "r-2": RunMark(paused=True, pause_n=2)})
        await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(paused=False, pause_n=1)})
        assert await inbox.marks(["r-1", "r-2", "r-3"]) == {
            "r-1": RunMark(turned=True, ended=True),
            "r-2": RunMark(paused=True, pause_n=2),
        }
        await inbox.mark({"r-2": RunMark(paused=False, pause_n=3)})
        assert (await inbox.marks(["r-2"]))["r-2"] == RunMark(pause_n=3)

    async def test_the_lowest_place_of_a_stop_is_kept(self, home: Home) -> None:
        """Whichever was read first; an end stands after its turn. Of a stop without a place none is learnt later."""
        inbox = home.inbox("payment")
        for run, *places in [("r-1", 7, 9), ("r-2", 9, 7), ("r-3", -1, 9)]:
            for place in places:
                await inbox.mark({run: RunMark(turned=True, stopped_at=place)})
        await inbox.mark({"r-1": RunMark(ended=True, stopped_at=12)})
        await inbox.mark({"r-4": RunMark(paused=True, pause_n=1)})
        await inbox.mark({"r-4": RunMark(turned=True, paused=True, pause_n=1, stopped_at=0)})
        assert await inbox.marks(["r-1", "r-2", "r-3", "r-4"]) == {
            "r-1": RunMark(turned=True, ended=True, stopped_at=7),
            "r-2": RunMark(turned=True, stopped_at=7),
            "r-3": RunMark(turned=True),
            "r-4": RunMark(turned=True, paused=True, pause_n=1, stopped_at=0),
        }

    async def test_what_was_read_of_a_run_is_told_before_anything_begins(self, home: Home) -> None:
        """To who asks for it: then neither the attempt is counted nor the slot taken."""
        inbox = home.inbox("payment")
        await inbox.mark({"r-1": RunMark(turned=True), "r-2": RunMark(paused=False, pause_n=2)})
        careful = [Begin(f"t-{run}", "charge", run, run, unmarked=True) for run in ("r-1", "r-2", "r-3")]
        told = [Begun(0, mark=RunMark(turned=True)), Begun(0, mark=RunMark(pause_n=2)), Begun(1)]
        assert await inbox.begin(careful) == told
        assert await inbox.begin([Begin("u-1", "charge", "r-1", "r-1")]) == [Begun(1)]

    async def test_ended_runs_are_forgotten_in_time(self, home: Home, clock: VirtualClock) -> None:
        """With their entries and slots; open runs never."""
        inbox = home.inbox("payment")
        for run in ("r-1", "r-2"):
            await inbox.begin([Begin(f"t-{run}", "charge", run, run), Begin(f"u-{run}", "audit", run)])
        await inbox.mark({"r-1": RunMark(ended=True), "r-2": RunMark(turned=True)})
        await inbox.mark({"r-1": RunMark(turned=True)})
        assert await inbox.forget(clock.now_ms()) == 0
        await clock.advance(1)
        assert await inbox.forget(clock.now_ms()) == 2
        assert await inbox.marks(["r-1", "r-2"]) == {"r-2": RunMark(turned=True)}
        assert await inbox.begin([Begin("t-9", "charge", "r-1", "r-1")]) == [Begun(1)]
        assert await inbox.begin([Begin("t-9", "charge", "r-2", "r-2")]) == [Begun(0, slot_holder="t-r-2")]

    async def test_gates_are_kept_by_flow_declaration_and_key(self, home: Home) -> None:
        """What is kept is not another flow's, nor of another declaration, nor another service's."""
        inbox, key = home.inbox("mail"), "o-1 é:*"
        assert await inbox.gates("order", "a", [key]) == {}
        assert await inbox.gates_position("order", "a", 3) == 0
        await inbox.keep_gates(GateSave("order", "a", {3: 8, 4: 1}, {key: GateRow(3, 7, 0, b"\x00\xff")}))
        assert await inbox.gates("order", "a", [key, "o-2"]) == {key: b"\x00\xff"}
        assert [await inbox.gates_position("order", "a", partition) for partition in (3, 4, 5)] == [8, 1, 0]
        assert await inbox.gates("order", "b", [key]) == await inbox.gates("other", "a", [key]) == {}
        assert await inbox.gates_position("order", "b", 3) == await inbox.gates_position("other", "a", 3) == 0
        assert await home.inbox("post").gates("order", "a", [key]) == {}

    async def test_older_gates_change_nothing(self, home: Home) -> None:
        """A process that was taken for dead may write late; the same position again is newer, for it was answered."""
        inbox = home.inbox("mail")
        for position, state in ((7, b"7"), (5, b"5"), (7, b"7 answered")):
            await inbox.keep_gates(GateSave("order", "a", {0: position + 1}, {"o-1": GateRow(0, position, 0, state)}))
        assert await inbox.gates("order", "a", ["o-1"]) == {"o-1": b"7 answered"}
        assert await inbox.gates_position("order", "a", 0) == 8

    async def test_gates_are_forgotten_some_time_after_the_last_run_of_the_key(
        self, home: Home, clock: VirtualClock
    ) -> None:
        """Those of a key with an open run never, also where it was without one before."""
        inbox, ended_ms = home.inbox("mail"), clock.now_ms()
        ended = {key: GateRow(0, 1, ended_ms, b"ended") for key in ("o-1", "o-2")}
        await inbox.keep_gates(GateSave("order", "a", {0: 2}, ended))
        await inbox.keep_gates(GateSave("order", "a", {0: 3}, {"o-2": GateRow(0, 2, 0, b"open again")}))
        await clock.advance(1)
        await inbox.forget(clock.now_ms())
        assert "o-2" in await inbox.gates("order", "a", ["o-1", "o-2"])
