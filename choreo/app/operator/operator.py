"""An operator's actions: pause, resume, cancel or terminate a run, retry or resolve an undo, redrive a dead letter.

Each is a fact in the log; the tracker's fold decides its effect, and a preview says beforehand which. `actions` makes
the facts and refuses those that do not fit.
"""

from __future__ import annotations

import msgspec

from choreo.app.operator.actions import NEEDS_REASON, Action, Kind, fact_of, subject_of
from choreo.app.operator.audit import AuditPage, page
from choreo.app.operator.dead_letters import Redriver
from choreo.app.operator.preview import Preview, Previews
from choreo.app.publish.publisher import Receipt
from choreo.app.query.flows import Flows
from choreo.core.access import PROGRAM, Actor
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

REASON_TO_COME = "the reason that is given"
"""Stands for the reason in a preview that was asked for without one."""


class Operator:
    """An operator's actions. Every method raises NotFoundError (flow, key, run, entry) and ConflictError.

    `by` is the author of the action; the fact names it.
    """

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        dead_letters: DeadLetters,
        clock: Clock,
        codec: Codec | None = None,
    ) -> None:
        """Keep the parts; nothing is read yet. `codec`: for previews of flows that decide by fields of events."""
        self.redriver: Redriver = Redriver(flows, log, read_model, dead_letters, clock)
        self._previews = Previews(flows, log, read_model, dead_letters, clock, codec)
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._dead_letters = dead_letters
        self._clock = clock

    async def pause(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Start no further step of the run, and stop its deadlines, until it is resumed."""
        return await self.act(Action(Kind.PAUSE, flow, key, run, reason=reason), by=by)

    async def resume(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Let a paused run go on; every deadline moves by the length of the pause."""
        return await self.act(Action(Kind.RESUME, flow, key, run, reason=reason), by=by)

    async def cancel(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Start compensation: everything the run has done is undone, newest first."""
        return await self.act(Action(Kind.CANCEL, flow, key, run, reason=reason), by=by)

    async def terminate(self, flow: str, key: str, *, run: str = "", reason: str, by: Actor = PROGRAM) -> Receipt:
        """End the run as it is: no step starts and nothing is undone. `reason` is kept as the run's cause."""
        return await self.act(Action(Kind.TERMINATE, flow, key, run, reason=reason), by=by)

    async def retry_compensation(
        self, flow: str, key: str, entry: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM
    ) -> Receipt:
        """Request a failed undo once more: a new round. `entry` is a ledger entry's id, or its step's name."""
        return await self.act(Action(Kind.RETRY, flow, key, run, entry, reason), by=by)

    async def resolve_compensation(
        self, flow: str, key: str, entry: str, *, run: str = "", reason: str, by: Actor = PROGRAM
    ) -> Receipt:
        """Record that an effect was undone by hand, and how. `entry` is a ledger entry's id, or its step's name."""
        return await self.act(Action(Kind.RESOLVE, flow, key, run, entry, reason), by=by)

    async def act(self, action: Action, *, by: Actor = PROGRAM) -> Receipt:
        """Publish the fact of an action."""
        fact = await self._fact(action, by)
        position = (await self._log.append(fact.flow, [fact]))[0]
        return Receipt(fact.id, fact.type, fact.flow, fact.key, fact.run, position)

    async def preview(self, action: Action, *, by: Actor = PROGRAM) -> Preview:
        """Return the consequences that the action would have now. Publishes nothing; refuses as the action does."""
        if action.kind in NEEDS_REASON and not action.reason.strip():
            action = msgspec.structs.replace(action, reason=REASON_TO_COME)
        return await self._previews.of(await self._fact(action, by))

    async def redrive(self, dead_letter_id: str, *, by: Actor = PROGRAM) -> Receipt:
        """Redrive a dead letter to its failed step, or to the log if it was no step's."""
        return await self.redriver.redrive(dead_letter_id, by)

    async def preview_of_redrive(self, dead_letter_id: str, *, by: Actor = PROGRAM) -> Preview:
        """Return the consequences that a redrive of the dead letter would have now. Refuses as the redrive does."""
        dead_letter = await self._dead_letters.get(dead_letter_id)
        event = await self.redriver.event_of(dead_letter, by)
        return await self._previews.of(msgspec.structs.replace(event, flow=dead_letter.topic))

    async def audit(self, flow: str, limit: int, cursor: str = "") -> AuditPage:
        """Return the actions of operators on a flow, newest first."""
        self._flows.definition(flow)
        return await page(self._log, flow, limit, cursor)

    async def _fact(self, action: Action, by: Actor) -> Envelope:
        subject = await subject_of(self._flows, self._read_model, action)
        return fact_of(action, subject, by, self._clock.now_ms())
