"""Giving a dead letter back: to the one step that could not take it, or to the log if it was no step's.

Knows letters, the log and the read model. That the step runs under the old id is the host's part.
"""

from __future__ import annotations

import msgspec

from choreo.app.publish import Receipt
from choreo.app.query_flows import Flows
from choreo.app.views import detail_of
from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.core.fold import identified
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel


class Redriver:
    """The door for dead letters."""

    def __init__(self, flows: Flows, log: Log, read_model: ReadModel, letters: DeadLetters, clock: Clock) -> None:
        """Take the parts; nothing is read yet."""
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._letters = letters
        self._clock = clock

    async def redrive(self, letter_id: str) -> Receipt:
        """Give the letter back, and count it.

        Raises NotFoundError (no such letter), ConflictError (it would be of no use now; the remedy says what would).
        """
        letter = await self._letters.get(letter_id)
        table = self._flows.table(letter.topic)
        event = await (self._to_its_step(table, letter) if letter.step else self._to_the_log(table, letter))
        position = (await self._log.append(letter.topic, [event]))[0]
        await self._letters.redriven(letter_id)
        return Receipt(event.id, event.type, letter.topic, event.key, event.run, position)

    async def _to_its_step(self, table: FlowTable, letter: DeadLetter) -> Envelope:
        """The fact that makes the host of this step, and no other, read the record once more."""
        step = table.steps.get(letter.step)
        if step is None:
            raise ConflictError(
                f"step {letter.step} is no longer declared",
                where=_place(letter),
                remedy="Declare it again, or leave the letter as a record of what happened.",
            )
        old = identified(letter.record)
        run = old.id if old.type == table.flow.starts else old.run
        if step.name not in table.reactions:
            await self._refuse_if_over(table, letter, run)
        return Envelope(
            id=ids.of_run("redriven", letter.id, letter.redriven),
            type=facts.REDRIVEN,
            key=old.key,
            flow=table.flow.name,
            run=run,
            step=step.name,
            causation=old.id,
            trigger=old.id,
            version=old.version,
            outcome=letter.offset,
            reason=f"redriven: {letter.cause}"[:1_000],
            source="choreo/operator",
            time_ms=self._clock.now_ms(),
            traceparent=old.traceparent,
        )

    async def _refuse_if_over(self, table: FlowTable, letter: DeadLetter, run: str) -> None:
        """A forward step of a run that is turned or over would only be skipped."""
        row = await self._read_model.instance(table.flow.name, letter.record.event.key, run)
        detail = detail_of(row) if row else None
        if detail is not None and (detail.turned or detail.ended_ms):
            raise ConflictError(
                f"its run is {detail.status}: the step would be skipped",
                where=_place(letter),
                remedy="Start the instance anew, with another Idempotency-Key.",
            )

    async def _to_the_log(self, table: FlowTable, letter: DeadLetter) -> Envelope:
        """The record itself again, with the headers that were inferred: the tracker has never folded it."""
        event = identified(letter.record)
        if event.type == facts.UNREADABLE:
            raise ConflictError(
                f"its headers cannot be read: {event.reason}",
                where=_place(letter),
                remedy="Publish the event anew, with headers as the README has them.",
            )
        if not event.key:
            raise ConflictError(
                "it has no key, so it belongs to no instance",
                where=_place(letter),
                remedy="Publish the event anew with the business key as the message key.",
            )
        if event.type not in table.flow.events and not event.type.startswith(facts.PREFIX):
            raise ConflictError(
                f"{event.type} is still no event of flow {table.flow.name}",
                where=_place(letter),
                remedy="Declare it in the flow first, then redrive the letter.",
            )
        if event.type == table.flow.starts:
            return msgspec.structs.replace(event, run=event.id)
        makers = (*table.successes.get(event.type, ()), *table.failures.get(event.type, ()))
        step = event.step or (makers[0] if len(makers) == 1 else "")
        return msgspec.structs.replace(event, step=step, run=event.run or await self._oldest_open_run(event))

    async def _oldest_open_run(self, event: Envelope) -> str:
        rows = await self._read_model.runs(event.flow, event.key)
        return next((row.run for row in rows if not detail_of(row).ended_ms), "")


def _place(letter: DeadLetter) -> str:
    return f"dead letter {letter.id} ({letter.topic}/{letter.partition}/{letter.offset})"
