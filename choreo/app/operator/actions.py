"""An operator's action as a value, and the fact that it becomes: refused here where it plainly does not fit.

Knows the shown state of a run, which may lag: the fold refuses again. Ids are derived, so that two clicks are one fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from choreo.app.query.flows import Flows
from choreo.app.query.read_your_writes import IF_JUST_STARTED
from choreo.app.tracking.views import Detail, Effect, detail_of
from choreo.core import facts, ids
from choreo.core.access import Actor, Role
from choreo.core.errors import ConflictError, DecodeError, NotFoundError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.state import FAILED, UNSETTLED
from choreo.ports.read_model import InstanceView, ReadModel

REASON_LENGTH_MAX = 1_000
"""In characters: a reason goes into a header, and Kafka's headers are not made for long texts."""

REASON_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: a header is one line."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Kind(StrEnum):
    """The actions on a run, by the words of the command line."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    RETRY = "undo-retry"
    RESOLVE = "undo-resolve"


NEEDS_REASON = frozenset({Kind.TERMINATE, Kind.RESOLVE})
ABOUT_ENTRIES = frozenset({Kind.RETRY, Kind.RESOLVE})

ROLES: dict[Kind, Role] = {kind: Role.ADMIN if kind in NEEDS_REASON else Role.OPERATOR for kind in Kind}
"""The role that each action needs."""


class Action(msgspec.Struct, frozen=True):
    """One action on one run."""

    kind: Kind
    flow: str
    key: str
    run: str = ""
    """Empty: the key's only open one."""
    entry: str = ""
    """A ledger entry's id, or its step's name."""
    reason: str = ""


class Subject(NamedTuple):
    """The run an action is about."""

    table: FlowTable
    row: InstanceView
    detail: Detail

    @property
    def place(self) -> str:
        """Return it for people."""
        return f"flow {self.row.flow}, key {self.row.key!r}, run {self.row.run}"


async def subject_of(flows: Flows, read_model: ReadModel, action: Action) -> Subject:
    """Return the chosen run, which must be open. Raises NotFoundError, ConflictError."""
    table = flows.table(action.flow)
    rows = await read_model.runs(action.flow, action.key)
    named = await read_model.instance(action.flow, action.key, action.run) if action.run else None
    if not rows:
        raise NotFoundError(
            "there is no such instance", where=f"flow {action.flow}, key {action.key!r}", remedy=IF_JUST_STARTED
        )
    if action.run:
        return open_one(Subject(table, named, detail_of(named)) if named else None, action)
    subjects = [Subject(table, row, detail_of(row)) for row in rows]
    open_ones = [subject for subject in subjects if not subject.detail.ended_ms]
    if len(open_ones) > 1:
        raise ConflictError(
            f"the key has {len(open_ones)} open runs",
            where=f"flow {action.flow}, key {action.key!r}",
            remedy=f"Name one: {', '.join(subject.row.run for subject in open_ones)}.",
        )
    return open_one((open_ones or subjects)[-1], action)


def open_one(subject: Subject | None, action: Action) -> Subject:
    """Return the subject. Raises NotFoundError where there is none, ConflictError where it has ended."""
    if subject is None:
        raise NotFoundError(
            f"there is no run {action.run!r}",
            where=f"flow {action.flow}, key {action.key!r}",
            remedy="Leave the run out to mean the open one.",
        )
    if subject.detail.ended_ms:
        raise ConflictError(
            f"the run has ended: {subject.detail.status}",
            where=subject.place,
            remedy="Only an open run can be operated on.",
        )
    return subject


def fact_of(action: Action, subject: Subject, by: Actor, now_ms: int) -> Envelope:
    """Return the fact of an action. Raises ConflictError where it does not fit the run, DecodeError on its reason."""
    row = subject.row
    type_, id_, about = _FACTS[action.kind](action, subject)
    if action.kind in NEEDS_REASON:
        _require(action.reason)
    return Envelope(
        id=id_,
        type=type_,
        key=row.key,
        flow=row.flow,
        run=row.run,
        version=subject.detail.version,
        reason=_short(action.reason),
        source="choreo/operator",
        time_ms=now_ms,
        actor=by.text,
        **about,
    )


_Fact = tuple[str, str, dict[str, Any]]
"""Type, id and further fields of a fact."""


def _pause(_: Action, subject: Subject) -> _Fact:
    if subject.detail.paused_ms:
        raise ConflictError("the run is paused already", where=subject.place, remedy="Resume it when it may go on.")
    return _of_series(facts.FLOW_PAUSED, subject)


def _resume(_: Action, subject: Subject) -> _Fact:
    if not subject.detail.paused_ms:
        raise ConflictError("the run is not paused", where=subject.place, remedy="There is nothing to resume.")
    return _of_series(facts.FLOW_RESUMED, subject)


def _of_series(type_: str, subject: Subject) -> _Fact:
    """Return a pause or a resume; both are one series, in which the highest number counts."""
    number = subject.detail.pause_n + 1
    return type_, ids.of_run("pause", subject.row.run, number), {"n": number}


def _cancel(_: Action, subject: Subject) -> _Fact:
    if subject.detail.compensating:
        raise ConflictError(
            f"the run is compensating already: {subject.detail.cause}",
            where=subject.place,
            remedy="Its undos are under way, or wait for an operator.",
        )
    _still_undecided(subject)
    return facts.CANCEL_REQUESTED, ids.of_run("cancel", subject.row.run), {}


def _terminate(_: Action, subject: Subject) -> _Fact:
    _still_undecided(subject)
    return facts.FLOW_TERMINATED, ids.of_run("terminated", subject.row.run), {}


def _retry(action: Action, subject: Subject) -> _Fact:
    effect = _effect(subject, action.entry, {FAILED})
    step = subject.table.nearest(subject.detail.version).steps.get(effect.step)
    undo = step.compensation if step else None
    if undo is None or (effect.in_doubt and not (undo.takes_none and undo.bars)):
        why = "it is in doubt, and its compensation cannot ask" if undo else "it declares no compensation any more"
        raise ConflictError(
            f"the undo of {effect.step} cannot be tried again: {why}",
            where=subject.place,
            remedy="Undo it by hand, then resolve it with a reason.",
        )
    return facts.COMPENSATION_RETRY_REQUESTED, ids.of_round("undo-retry", effect.entry, effect.round), _about(effect)


def _resolve(action: Action, subject: Subject) -> _Fact:
    effect = _effect(subject, action.entry, UNSETTLED)
    if not subject.detail.compensating:
        raise ConflictError(
            "the run goes forward: nothing of it is being undone", where=subject.place, remedy="Cancel it first."
        )
    return facts.COMPENSATION_RESOLVED, ids.of_round("undo-resolved", effect.entry, effect.round), _about(effect)


_FACTS = {
    Kind.PAUSE: _pause,
    Kind.RESUME: _resume,
    Kind.CANCEL: _cancel,
    Kind.TERMINATE: _terminate,
    Kind.RETRY: _retry,
    Kind.RESOLVE: _resolve,
}


def _still_undecided(subject: Subject) -> None:
    if subject.detail.completing:
        raise ConflictError(
            "the run has decided to complete",
            where=subject.place,
            remedy="It ends by itself; undo its effects with a flow made for that, such as a return.",
        )


def _effect(subject: Subject, entry: str, states: Iterable[str]) -> Effect:
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


def _require(reason: str) -> None:
    if not reason.strip():
        raise DecodeError("a reason is required", where="reason", remedy="Give it in a sentence; the log keeps it.")


def _short(reason: str) -> str:
    if len(reason) > REASON_LENGTH_MAX or not re.fullmatch(REASON_PATTERN, reason) or _SURROGATE.search(reason):
        raise DecodeError(
            f"a reason is at most {REASON_LENGTH_MAX} characters, none of them a control character",
            where="reason",
            remedy="Shorten it to a sentence or two.",
        )
    return reason
