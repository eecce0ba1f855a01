"""Redrive a dead letter: to the one step that failed on it, or to the log if it was no step's.

Knows dead letters, the log and the read model. The host runs the step again under the old id.
"""

from __future__ import annotations

import msgspec

from choreo.app.publish.publisher import Receipt
from choreo.app.query.flows import Flows
from choreo.app.tracking.views import detail_of, shown_runs
from choreo.core import facts, ids
from choreo.core.access import Actor
from choreo.core.attribution import run_of, step_of
from choreo.core.baggage import carried_of, fields_of
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel


class Redriver:
    """Redrives dead letters."""

    def __init__(self, flows: Flows, log: Log, read_model: ReadModel, dead_letters: DeadLetters, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._dead_letters = dead_letters
        self._clock = clock

    async def redrive(self, dead_letter_id: str, by: Actor) -> Receipt:
        """Publish the dead letter's record again with the author of the redrive, and count the redrive.

        Raises NotFoundError (no such dead letter), ConflictError (a redrive would be useless; see its remedy).
        """
        dead_letter = await self._dead_letters.get(dead_letter_id)
        event = await self.event_of(dead_letter, by)
        position = (await self._log.append(dead_letter.topic, [event]))[0]
        await self._dead_letters.redriven(dead_letter_id)
        return Receipt(event.id, event.type, dead_letter.topic, event.key, event.run, position)

    async def event_of(self, dead_letter: DeadLetter, by: Actor) -> Envelope:
        """Return the event that a redrive of this dead letter would publish now. Raises ConflictError."""
        table = self._flows.table(dead_letter.topic)
        event = await (
            self._to_its_step(table, dead_letter) if dead_letter.step else self._to_the_log(table, dead_letter)
        )
        return msgspec.structs.replace(event, actor=by.text)

    async def _to_its_step(self, table: FlowTable, dead_letter: DeadLetter) -> Envelope:
        """Return the fact that makes the host of this step, or the bridge, and no other read the record once more."""
        old = identified(dead_letter.record)
        run = old.id if old.type == table.flow.starts else old.run
        version = await self._version_of(table, old, run)
        step = table.nearest(version).steps.get(dead_letter.step)
        if step is None and dead_letter.step not in table.flow.crossings:
            raise ConflictError(
                f"{dead_letter.step} is no longer declared",
                where=_place(dead_letter),
                remedy="Declare it again, or leave the dead letter as a record of the failure.",
            )
        if step is not None and step.name not in table.nearest(version).reactions:
            await self._refuse_if_over(table, dead_letter, run)
        return Envelope(
            id=ids.of_run("redriven", dead_letter.id, dead_letter.redriven),
            type=facts.REDRIVEN,
            key=old.key,
            flow=table.flow.name,
            run=run,
            step=dead_letter.step,
            causation=old.id,
            trigger=old.id,
            version=version,
            build=old.build,
            outcome=dead_letter.offset,
            reason=f"redriven: {dead_letter.cause}"[:1_000],
            source="choreo/operator",
            time_ms=self._clock.now_ms(),
            **fields_of(carried_of(old)),
        )

    async def _version_of(self, table: FlowTable, event: Envelope, run: str) -> int:
        """Return the version of the event's run; an event from outside may name another, or none."""
        if not table.is_versioned:
            return event.version
        row = await self._read_model.instance(table.flow.name, event.key, run)
        return detail_of(row).version if row else event.version

    async def _refuse_if_over(self, table: FlowTable, dead_letter: DeadLetter, run: str) -> None:
        """Raise ConflictError for a forward step of a run that is compensating or over: it would only be skipped."""
        row = await self._read_model.instance(table.flow.name, dead_letter.record.event.key, run)
        detail = detail_of(row) if row else None
        if detail is not None and (detail.compensating or detail.ended_ms):
            raise ConflictError(
                f"its run is {detail.status}: the step would be skipped",
                where=_place(dead_letter),
                remedy="Start the instance anew, with another Idempotency-Key.",
            )

    async def _to_the_log(self, table: FlowTable, dead_letter: DeadLetter) -> Envelope:
        """Return the record itself, with the inferred headers: the tracker has never folded it."""
        event = identified(dead_letter.record)
        if event.type == facts.UNREADABLE:
            raise ConflictError(
                f"its headers cannot be read: {event.reason}",
                where=_place(dead_letter),
                remedy="Publish the event anew, with headers as the README has them.",
            )
        if not event.key:
            raise ConflictError(
                "it has no key, so it belongs to no instance",
                where=_place(dead_letter),
                remedy="Publish the event anew with the business key as the message key.",
            )
        if event.type not in table.flow.events and not event.type.startswith(facts.PREFIX):
            raise ConflictError(
                f"{event.type} is still no event of flow {table.flow.name}",
                where=_place(dead_letter),
                remedy="Declare it in the flow first, then redrive the dead letter.",
            )
        if event.type == table.flow.starts:
            return msgspec.structs.replace(event, run=event.id)
        runs = shown_runs(await self._read_model.runs(event.flow, event.key))
        run = run_of(event, runs)
        return msgspec.structs.replace(
            event, step=step_of(table.nearest(event.version), event), run=event.run or (run.id if run else "")
        )


def _place(dead_letter: DeadLetter) -> str:
    return f"dead letter {dead_letter.id} ({dead_letter.topic}/{dead_letter.partition}/{dead_letter.offset})"
