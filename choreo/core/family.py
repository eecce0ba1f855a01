"""Fold the facts about the child flows of a run: start batch after batch, join, undo, and pass a pause or an end down.

Every function takes the fold and the run's working copy. The counting stands in children.py; the child's own side in
parentage.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from choreo.core import children, facts, ids
from choreo.core.children import Children, End, count, has, with_bit
from choreo.core.crossing import JSON, ended_of, plan_of
from choreo.core.definition import ChildrenDefinition, StepDefinition
from choreo.core.events import TRACKER_JSON
from choreo.core.fold import Fold
from choreo.core.forward import carry
from choreo.core.ledger import closed, opened
from choreo.core.percent import encoded
from choreo.core.state import COMPLETED, FAILED, REQUESTED, TERMINATED, UNDONE, Run

RESULT_FIELDS = ("results", "all_results", "completed", "failed", "reason")
"""Fields that the tracker fills in, besides the key, in the event of a join: those of them that its class has."""


def planned(fold: Fold, run: Run) -> None:
    """Fold a batch of starts: the first one opens the step's entry in the ledger, and nothing has started yet."""
    event, plan = fold.event, plan_of(fold.event)
    step = fold.table.steps.get(event.step)
    if plan is None or step is None or step.children is None or run.status == TERMINATED:
        fold.orphan()
        return
    known = _of(run, event.step, event.trigger)
    if known is None:
        known = Children(event.step, event.trigger, event.hops, plan.total, plan.size)
        run.children = (*run.children, known)
        opened(fold, run, event.step, event.trigger)
    carry(fold, run)
    _put(run, known, known.planned(event.n, fold.offset))


def started(fold: Fold, run: Run) -> None:
    """Fold `choreo.ChildrenDue` from the log: the batch is started before every later order to it."""
    known = _of(run, fold.event.step, fold.event.trigger)
    if known is not None:
        _put(run, known, replace(known, started=with_bit(known.started, fold.event.n)))


def child_ended(fold: Fold, run: Run) -> None:
    """Fold the end of a child, as the bridge has carried it here."""
    event, ended = fold.event, ended_of(fold.event)
    if event.parent:
        return  # the run's own report: the bridge carries it into the parent's log
    known = _of(run, event.step, event.trigger)
    if ended is None or known is None:
        fold.orphan()
        return
    if not has(known.ended, event.n):
        carry(fold, run)
    reason = event.reason[: children.REASON_CHARS] if ended.outcome != children.OK else ""
    _put(run, known, known.child_ended(End(event.n, ended.key, ended.outcome, reason)))


def advance(fold: Fold, run: Run) -> None:
    """Decide the next facts about each step's children."""
    for known in run.children:
        step = fold.table.families.get(known.step)
        if step is not None and step.children is not None:
            _put(run, known, _advanced(fold, run, step, step.children, known))
    if run.compensating and not run.paused_ms and not run.ended_ms:
        _answer_for_none(fold, run)


def _advanced(fold: Fold, run: Run, step: StepDefinition, rule: ChildrenDefinition, known: Children) -> Children:
    known = _passed_pause(fold, run, known)
    if run.paused_ms:
        return known
    if run.status == TERMINATED:
        return _tell(fold, run, known, facts.CHILDREN_TERMINATED, "terminated", 0)
    if run.compensating:
        return _undone(fold, run, known)
    if run.status != COMPLETED and not run.completing:
        known = _due(fold, run, rule, known)
        known = _joined(fold, run, step, rule, known)
    enough = ""
    if rule.first and known.decision == children.JOINED:
        enough = f"{rule.first} others came first"
    elif known.decision == children.FAILED and len(step.emits) > 1:
        enough = f"{count(known.failed)} others have failed"
    if enough:
        return _request(fold, run, known, 0, besides="ended", reason=enough)
    return known


def _due(fold: Fold, run: Run, rule: ChildrenDefinition, known: Children) -> Children:
    """Let batches start as far as the window has room."""
    while known.startable(rule) and not known.decided(rule):
        batch = known.due
        _order(fold, run, known, facts.CHILDREN_DUE, batch)
        known = replace(known, due=batch + 1)
    return known


def _joined(fold: Fold, run: Run, step: StepDefinition, rule: ChildrenDefinition, known: Children) -> Children:
    """Publish the step's outcome once the join is decided."""
    decision = known.decided(rule)
    if known.decision or not decision or run.expects(known.step, known.trigger) is None:
        return known
    failed = count(known.failed)
    reason = f"{failed} of {known.total} children failed"
    first = next((end for end in known.ends if end.outcome != children.OK), None)
    if first is not None:
        reason += f"; {first.key}: {first.reason or first.outcome}"
    joined = decision == children.JOINED
    goes_on = joined or len(step.emits) > 1
    type_ = step.emits[0 if joined else 1] if goes_on else next(iter(step.fails), facts.STEP_FAILED)
    payload = {} if type_ == facts.STEP_FAILED else _payload(fold, run, type_, known, reason)
    about: dict[str, Any] = {"step": known.step, "trigger": known.trigger, "causation": known.trigger}
    fold.emit(
        run,
        type_,
        ids.derive("joined", known.trigger, known.step),
        "" if joined else reason,
        hops=known.hops,
        **about,
        **payload,
    )
    return replace(known, decision=decision)


def _payload(fold: Fold, run: Run, type_: str, known: Children, reason: str) -> dict[str, Any]:
    """Return the content of the join's event: the key, and those of RESULT_FIELDS that its class has."""
    failed = count(known.failed)
    ends = sorted(known.ends, key=lambda end: end.place)
    values: dict[str, Any] = {
        "results": [{"place": e.place, "key": e.key, "outcome": e.outcome, "reason": e.reason} for e in ends],
        "all_results": _place_of_all(fold, run, known),
        "completed": count(known.ended) - failed,
        "failed": failed,
        "reason": reason,
    }
    declared = fold.table.flow.events.get(type_, ())
    content = {fold.table.flow.key: fold.event.key}
    content |= {name: values[name] for name in RESULT_FIELDS if name in declared}
    return {"content_type": TRACKER_JSON, "data": msgspec.json.encode(content)}


def _place_of_all(fold: Fold, run: Run, known: Children) -> str:
    """Return the path of all results in the REST view; "" where the event has them."""
    if count(known.ended) <= children.KEPT_MAX:
        return ""
    about = {"step": known.step, "run": run.id, "trigger": known.trigger}
    query = "&".join(f"{name}={encoded(value)}" for name, value in about.items())
    return f"/flows/{encoded(fold.table.flow.name)}/instances/{encoded(fold.event.key)}/children?{query}"


def _undone(fold: Fold, run: Run, known: Children) -> Children:
    """Undo the children once the request stands in the log; answer it when all are undone, or one cannot be."""
    expected = run.expects(known.step, known.trigger)
    if expected is not None:
        run.settle(expected)  # its handler has answered, and no join comes any more
    entry = run.entry(ids.entry(run.id, known.step, known.trigger))
    if entry is None or not (entry.state == FAILED or (entry.state == REQUESTED and entry.due_ms)):
        return known
    if entry.round != known.round:
        known = replace(known, round=entry.round, requested=b"")
    if entry.state == REQUESTED:
        known = _request(fold, run, known, known.round, besides="undone")
    about: dict[str, Any] = {"step": entry.step, "trigger": entry.trigger, "entry": entry.id, "round": entry.round}
    if known.all_undone:
        _once(fold, run, facts.CHILDREN_COMPENSATED, ids.undo(entry.id), f"{known.opened} children are undone", about)
    elif count(known.stuck) and known.answered < entry.round:
        id_ = ids.of_round("undo-failed", entry.id, entry.round)
        stuck = next((end.key for end in known.ends if has(known.stuck, end.place)), "")
        reason = f"{count(known.stuck)} of its children cannot be undone" + (f"; {stuck} is one" if stuck else "")
        _once(fold, run, facts.COMPENSATION_FAILED, id_, reason, about)
        known = replace(known, answered=entry.round)
    return known


def _answer_for_none(fold: Fold, run: Run) -> None:
    """Answer the request to undo a step that has planned no children: its handler failed, and started nothing."""
    for entry in run.ledger:
        asked = entry.state == REQUESTED and entry.due_ms and entry.step in fold.table.families
        if asked and _of(run, entry.step, entry.trigger) is None:
            about = {"step": entry.step, "trigger": entry.trigger, "entry": entry.id, "round": entry.round}
            _once(fold, run, facts.CHILDREN_COMPENSATED, ids.undo(entry.id), "it has started no children", about)


def children_compensated(fold: Fold, run: Run) -> None:
    """Fold the tracker's own answer: the entry is undone."""
    entry = run.entry(fold.event.entry)
    if entry is not None:
        run.put(closed(entry, UNDONE))


def _passed_pause(fold: Fold, run: Run, known: Children) -> Children:
    """Pass a pause or its end down to the batches that are started."""
    if run.paused_ms:
        if known.pause_n != run.pause_n:
            known = replace(known, pause_n=run.pause_n, paused=b"")
        return _tell(fold, run, known, facts.CHILDREN_PAUSED, "paused", run.pause_n)
    if not known.paused:
        return known
    for batch in range(known.due):
        if has(known.paused, batch):
            _order(fold, run, known, facts.CHILDREN_RESUMED, batch, run.pause_n)
    return replace(known, paused=b"", pause_n=run.pause_n)


def _tell(
    fold: Fold,
    run: Run,
    known: Children,
    type_: str,
    told: str,
    round_: int,
    *,
    besides: str = "",
    reason: str = "",
) -> Children:
    """Order something of every batch that is started and was not told; `told` names the set of those that were.

    With `besides` the order is about the children alone that are not in the set of that name.
    """
    bits = getattr(known, told)
    if count(bits) == count(known.started):
        return known
    for batch in range(known.due):
        if has(known.started, batch) and not has(bits, batch):
            about = known.places(batch) if besides else ()
            left = [place - batch * known.size for place in about if not has(getattr(known, besides), place)]
            if left or not besides:
                _order(fold, run, known, type_, batch, round_, reason=reason, places=left)
            bits = with_bit(bits, batch)
    return replace(known, **{told: bits})


def _request(fold: Fold, run: Run, known: Children, round_: int, *, besides: str, reason: str = "") -> Children:
    """Order the compensation of the children that are not in the set `besides`."""
    type_ = facts.CHILDREN_COMPENSATION_REQUESTED
    return _tell(fold, run, known, type_, "requested", round_, besides=besides, reason=reason)


def _order(
    fold: Fold,
    run: Run,
    known: Children,
    type_: str,
    batch: int,
    round_: int = 0,
    *,
    reason: str = "",
    places: Iterable[int] = (),
) -> None:
    """Publish a fact about a batch, which the bridge carries to the children."""
    within = list(places)
    content: dict[str, Any] = {"content_type": JSON, "data": msgspec.json.encode(within)} if within else {}
    fold.emit(
        run,
        type_,
        ids.derive(type_, run.id, known.step, known.trigger, batch, round_),
        reason or run.cause,
        step=known.step,
        trigger=known.trigger,
        n=batch,
        round=round_,
        outcome=known.offsets[batch],
        **content,
    )


def _once(fold: Fold, run: Run, type_: str, id_: str, reason: str, about: dict[str, Any]) -> None:
    """Publish a fact unless it is on its way."""
    if not any(fact.id == id_ and fact.type == type_ for fact in run.outbox):
        fold.emit(run, type_, id_, reason, **about)


def _of(run: Run, step: str, trigger: str) -> Children | None:
    return next((known for known in run.children if (known.step, known.trigger) == (step, trigger)), None)


def _put(run: Run, known: Children, changed: Children) -> None:
    if changed is not known:
        run.children = tuple(changed if other is known else other for other in run.children)


FACTS = {
    facts.CHILDREN_PLANNED: planned,
    facts.CHILDREN_DUE: started,
    facts.CHILD_ENDED: child_ended,
    facts.CHILDREN_COMPENSATED: children_compensated,
}
