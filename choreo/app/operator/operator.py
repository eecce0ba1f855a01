"""An operator's actions: pause, resume, cancel or terminate a run, retry or resolve an undo, redrive a dead letter.

Each is a fact in the log; the tracker's fold decides its effect. An action that plainly does not fit is refused here,
by the read model. The read model may lag, so the fold refuses again; ids are derived so that two clicks are one fact.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from choreo.app.operator.audit import AuditPage, page
from choreo.app.operator.dead_letters import Redriver
from choreo.app.publish.publisher import Receipt
from choreo.app.query.flows import Flows
from choreo.app.query.read_your_writes import IF_JUST_STARTED
from choreo.app.tracking.views import Detail, Effect, detail_of
from choreo.core import facts, ids
from choreo.core.access import PROGRAM, Actor
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.state import FAILED, UNSETTLED
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import InstanceView, ReadModel

REASON_LENGTH_MAX = 1_000
"""In characters: a reason goes into a header, and Kafka's headers are not made for long texts."""

REASON_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: a header is one line."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _Subject(NamedTuple):
    """The run an action is about."""

    table: FlowTable
    row: InstanceView
    detail: Detail

    @property
    def place(self) -> str:
        return f"flow {self.row.flow}, key {self.row.key!r}, run {self.row.run}"


class Operator:
    """An operator's actions. Every method raises NotFoundError (flow, key, run, entry) and ConflictError.

    `by` is the author of the action; the fact names it.
    """

    def __init__(self, flows: Flows, log: Log, read_model: ReadModel, dead_letters: DeadLetters, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._redriver = Redriver(flows, log, read_model, dead_letters, clock)
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._clock = clock

    async def pause(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Start no further step of the run, and stop its deadlines, until it is resumed."""
        subject = await self._open(flow, key, run)
        if subject.detail.paused_ms:
            raise ConflictError("the run is paused already", where=subject.place, remedy="Resume it when it may go on.")
        return await self._publish_of_series(subject, facts.FLOW_PAUSED, reason, by)

    async def resume(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Let a paused run go on; every deadline moves by the length of the pause."""
        subject = await self._open(flow, key, run)
        if not subject.detail.paused_ms:
            raise ConflictError("the run is not paused", where=subject.place, remedy="There is nothing to resume.")
        return await self._publish_of_series(subject, facts.FLOW_RESUMED, reason, by)

    async def cancel(self, flow: str, key: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM) -> Receipt:
        """Start compensation: everything the run has done is undone, newest first."""
        subject = await self._open(flow, key, run)
        if subject.detail.compensating:
            raise ConflictError(
                f"the run is compensating already: {subject.detail.cause}",
                where=subject.place,
                remedy="Its undos are under way, or wait for an operator.",
            )
        _still_undecided(subject)
        id_ = ids.of_run("cancel", subject.row.run)
        return await self._publish(subject, facts.CANCEL_REQUESTED, id_, reason, by)

    async def terminate(self, flow: str, key: str, *, run: str = "", reason: str, by: Actor = PROGRAM) -> Receipt:
        """End the run as it is: no step starts and nothing is undone. `reason` is kept as the run's cause."""
        subject = await self._open(flow, key, run)
        _still_undecided(subject)
        id_ = ids.of_run("terminated", subject.row.run)
        return await self._publish(subject, facts.FLOW_TERMINATED, id_, _required(reason), by)

    async def retry_compensation(
        self, flow: str, key: str, entry: str, *, run: str = "", reason: str = "", by: Actor = PROGRAM
    ) -> Receipt:
        """Request a failed undo once more: a new round. `entry` is a ledger entry's id, or its step's name."""
        subject = await self._open(flow, key, run)
        effect = _effect(subject, entry, {FAILED})
        step = subject.table.nearest(subject.detail.version).steps.get(effect.step)
        undo = step.compensation if step else None
        if undo is None or (effect.in_doubt and not (undo.takes_none and undo.bars)):
            why = "it is in doubt, and its compensation cannot ask" if undo else "it declares no compensation any more"
            raise ConflictError(
                f"the undo of {effect.step} cannot be tried again: {why}",
                where=subject.place,
                remedy="Undo it by hand, then resolve it with a reason.",
            )
        id_ = ids.of_round("undo-retry", effect.entry, effect.round)
        return await self._publish(subject, facts.COMPENSATION_RETRY_REQUESTED, id_, reason, by, **_about(effect))

    async def resolve_compensation(
        self, flow: str, key: str, entry: str, *, run: str = "", reason: str, by: Actor = PROGRAM
    ) -> Receipt:
        """Record that an effect was undone by hand, and how. `entry` is a ledger entry's id, or its step's name."""
        subject = await self._open(flow, key, run)
        effect = _effect(subject, entry, UNSETTLED)
        if not subject.detail.compensating:
            raise ConflictError(
                "the run goes forward: nothing of it is being undone", where=subject.place, remedy="Cancel it first."
            )
        id_ = ids.of_round("undo-resolved", effect.entry, effect.round)
        return await self._publish(subject, facts.COMPENSATION_RESOLVED, id_, _required(reason), by, **_about(effect))

    async def redrive(self, dead_letter_id: str, *, by: Actor = PROGRAM) -> Receipt:
        """Redrive a dead letter to its failed step, or to the log if it was no step's."""
        return await self._redriver.redrive(dead_letter_id, by)

    async def audit(self, flow: str, limit: int, cursor: str = "") -> AuditPage:
        """Return the actions of operators on a flow, newest first."""
        self._flows.definition(flow)
        return await page(self._log, flow, limit, cursor)

    async def _open(self, flow: str, key: str, run: str) -> _Subject:
        """Return the chosen run, which must be open; without `run` the only open one of the key."""
        table = self._flows.table(flow)
        rows = await self._read_model.runs(flow, key)
        named = await self._read_model.instance(flow, key, run) if run else None
        if not rows:
            raise NotFoundError(
                "there is no such instance",
                where=f"flow {flow}, key {key!r}",
                remedy=IF_JUST_STARTED,
            )
        if run:
            return _open_one(_Subject(table, named, detail_of(named)) if named else None, flow, key, run)
        subjects = [_Subject(table, row, detail_of(row)) for row in rows]
        open_ones = [subject for subject in subjects if not subject.detail.ended_ms]
        if len(open_ones) > 1:
            raise ConflictError(
                f"the key has {len(open_ones)} open runs",
                where=f"flow {flow}, key {key!r}",
                remedy=f"Name one: {', '.join(subject.row.run for subject in open_ones)}.",
            )
        return _open_one((open_ones or subjects)[-1], flow, key, run)

    async def _publish_of_series(self, subject: _Subject, type_: str, reason: str, by: Actor) -> Receipt:
        """Publish a pause or a resume; both are one series, in which the highest number counts."""
        number = subject.detail.pause_n + 1
        return await self._publish(subject, type_, ids.of_run("pause", subject.row.run, number), reason, by, n=number)

    async def _publish(self, subject: _Subject, type_: str, id_: str, reason: str, by: Actor, **fields: Any) -> Receipt:
        row = subject.row
        fact = Envelope(
            id=id_,
            type=type_,
            key=row.key,
            flow=row.flow,
            run=row.run,
            version=subject.detail.version,
            reason=_short(reason),
            source="choreo/operator",
            time_ms=self._clock.now_ms(),
            actor=by.text,
            **fields,
        )
        position = (await self._log.append(row.flow, [fact]))[0]
        return Receipt(id_, type_, row.flow, row.key, row.run, position)


def _open_one(subject: _Subject | None, flow: str, key: str, run: str) -> _Subject:
    if subject is None:
        raise NotFoundError(
            f"there is no run {run!r}",
            where=f"flow {flow}, key {key!r}",
            remedy="Leave the run out to mean the open one.",
        )
    if subject.detail.ended_ms:
        raise ConflictError(
            f"the run has ended: {subject.detail.status}",
            where=subject.place,
            remedy="Only an open run can be operated on.",
        )
    return subject


def _still_undecided(subject: _Subject) -> None:
    if subject.detail.completing:
        raise ConflictError(
            "the run has decided to complete",
            where=subject.place,
            remedy="It ends by itself; undo its effects with a flow made for that, such as a return.",
        )


def _effect(subject: _Subject, entry: str, states: set[str] | frozenset[str]) -> Effect:
    """Return the chosen ledger entry, in one of these states."""
    named = [effect for effect in subject.detail.ledger if entry in (effect.entry, effect.step)]
    if not named:
        known = ", ".join(f"{effect.step} ({effect.entry})" for effect in subject.detail.ledger)
        raise NotFoundError(
            f"there is no ledger entry {entry!r}", where=subject.place, remedy=f"Its entries: {known or 'none'}."
        )
    fitting = [effect for effect in named if effect.state in states]
    if not fitting:
        raise ConflictError(
            f"the effect of {named[-1].step} is {named[-1].state}",
            where=subject.place,
            remedy=f"This can be done to one that is {' or '.join(sorted(states))}.",
        )
    if len(fitting) > 1:
        raise ConflictError(
            f"{entry} has {len(fitting)} entries",
            where=subject.place,
            remedy=f"Name one: {', '.join(effect.entry for effect in fitting)}.",
        )
    return fitting[0]


def _about(effect: Effect) -> dict[str, Any]:
    return {"step": effect.step, "entry": effect.entry, "round": effect.round}


def _required(reason: str) -> str:
    if not reason.strip():
        raise DecodeError("a reason is required", where="reason", remedy="Give it in a sentence; the log keeps it.")
    return reason


def _short(reason: str) -> str:
    if len(reason) > REASON_LENGTH_MAX or not re.fullmatch(REASON_PATTERN, reason) or _SURROGATE.search(reason):
        raise DecodeError(
            f"a reason is at most {REASON_LENGTH_MAX} characters, none of them a control character",
            where="reason",
            remedy="Shorten it to a sentence or two.",
        )
    return reason
