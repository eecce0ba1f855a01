"""An event from outside is refused only where it can start nothing any more."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.app.publish.awaiting import Awaiting
from choreo.core.definition import WaitDefinition
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from tests.core.plain import flow, step
from tests.hosts.test_tracker import TOPIC, outcome, start
from tests.hosts.test_tracker_reminders import trackers

TRIAL = WaitDefinition("timer.trial", "Signed", "Left", 1_000, "", then="Due", moved_by="Extended")
PLAIN = flow(
    step("desk.sign", "OrderPlaced", "Signed", effect=False),
    step("desk.bill", "Due", "OrderConfirmed", effect=False),
    waits=(TRIAL,),
)
STEP = step("desk.note", "Extended", effect=False)
WAIT = WaitDefinition("wait.Called", "Extended", "Called", 9_000, "", then="NotCalled")


async def test_what_moves_a_timer_that_is_over_is_refused_unless_more_follows_from_it() -> None:
    """A step on it runs at any time, and a wait that it opens opens."""
    more = [replace(PLAIN, steps=(*PLAIN.steps, STEP)), replace(PLAIN, waits=(TRIAL, WAIT))]
    for definition in (PLAIN, *more):
        async with trackers(definition) as running:
            running.start("one")
            placed = start()
            await running.publish(placed, outcome(placed, "desk.sign", "Signed"))
            awaiting = Awaiting(running.backend.log, running.backend.read_model, running.clock)
            table = FlowTable(definition)
            assert await awaiting.refusal(table, "Extended", placed.key, "") is None
            await running.publish(Envelope(id="left", type="Left", key=placed.key, flow=TOPIC))
            refusal = await awaiting.refusal(table, "Extended", placed.key, "")
            assert (refusal is None) == (definition in more)
