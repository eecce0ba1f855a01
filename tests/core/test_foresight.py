"""Foresight equals the course of events: random histories of the model, an operator's fact, and what then happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from choreo.core import compensation, facts, foresight, ids
from choreo.core.events import Envelope
from choreo.core.foresight import Foresight, foresee
from choreo.core.react import react
from choreo.core.state import COMPENSATED, FAILED, STUCK, TERMINATED, UNSETTLED, KeyState, LedgerEntry, Run
from tests.core.model.scheduler import Scheduler
from tests.core.model.world import KEY, World

CASES = 1_000


class _Case(NamedTuple):
    """A history with an operator's fact that is about to be published."""

    history: Scheduler
    run: Run
    fact: Envelope
    seen: Foresight
    known: int
    """Records in the log before it."""
    quiet: bool
    """Whether every part had read the log and nothing was under way."""


def _folded(world: World) -> KeyState:
    state = KeyState()
    for record in world.log:
        state, _ = react(world.table, state, record)
    return state


def _facts(run: Run) -> list[Envelope]:
    """Return the facts that an operator may publish about this run."""

    def fact(type_: str, id_: str, **fields: object) -> Envelope:
        return Envelope(id=id_, type=type_, key=KEY, flow="order", run=run.id, **fields)  # type: ignore[arg-type]

    def about(entry: LedgerEntry) -> dict[str, object]:
        return {"entry": entry.id, "step": entry.step, "round": entry.round}

    n = run.pause_n + 1
    pause = facts.FLOW_RESUMED if run.paused_ms else facts.FLOW_PAUSED
    found = [
        fact(pause, ids.of_run("pause", run.id, n), n=n),
        fact(facts.FLOW_TERMINATED, ids.of_run("terminated", run.id), reason="by hand"),
    ]
    if not run.compensating:
        found += [fact(facts.CANCEL_REQUESTED, ids.of_run("cancel", run.id), reason="asked")] * 3
    for entry in run.ledger:
        if run.compensating and entry.state in UNSETTLED:
            id_ = ids.of_round("undo-resolved", entry.id, entry.round)
            found.append(fact(facts.COMPENSATION_RESOLVED, id_, reason="by hand", **about(entry)))
        if entry.state == FAILED:
            id_ = ids.of_round("undo-retry", entry.id, entry.round)
            found += [fact(facts.COMPENSATION_RETRY_REQUESTED, id_, **about(entry))] * 3
    return found


def _case(seed: int) -> _Case | None:
    """Play a random part of a history, and let an operator look at a run; None where no run is open."""
    history = Scheduler(seed)
    world = history.world
    history.stir(world.chance.randrange(5, 260))
    history.calm()
    quiet = world.likely(0.8)
    if quiet:
        history.settle()
    state = _folded(world)
    runs = [run for run in state.runs if not run.ended]
    if not runs:
        return None
    run = world.chance.choice(runs)
    fact = world.chance.choice(_facts(run))
    return _Case(history, run, fact, foresee(world.table, state, fact, world.now_ms), len(world.log), quiet)


def _wrong(case: _Case, ends: Counter[str]) -> str:
    """Let the fact happen; return the difference to what was foreseen."""
    history, seen, world = case.history, case.seen, case.history.world
    world.append(case.fact)
    history.settle()
    later = [record.event for record in world.log[case.known + 1 :] if record.event.run == case.run.id]
    caused = [(event.type, event.id) for event in later if event.causation == case.fact.id and event.source]
    decided = {(event.type, event.id) for event in seen.decided}
    if not decided >= set(caused):
        return f"{set(caused) - decided} were decided, and not foreseen"
    if case.quiet and decided != set(caused):
        return f"{decided - set(caused)} were foreseen, and did not happen"
    history.drain()
    run = history.tracker.state.run(case.run.id)
    later = [record.event for record in world.log[case.known + 1 :] if record.event.run == case.run.id]
    return _other_undos(case, run, later) or _other_end(case, run, later, ends)


def _other_undos(case: _Case, run: Run | None, later: Sequence[Envelope]) -> str:
    """Compare the order of the compensations of entries that were known."""
    known = {entry.id for entry in case.run.ledger}
    before = {(record.event.id, record.event.type) for record in case.history.world.log[: case.known]}
    requests = (each for each in later if each.type == facts.COMPENSATION_REQUESTED and each.entry in known)
    asked = dict.fromkeys(each.entry for each in requests if (each.id, each.type) not in before)
    foreseen = [undo.entry for undo in case.seen.undos if not (undo.cause or undo.asked) and undo.entry in known]
    if run is None or _disturbed(case, run, later) or run.paused_ms:
        return ""
    return "" if list(asked) == foreseen else f"asked in the order {list(asked)}, foreseen was {foreseen}"


def _other_end(case: _Case, run: Run | None, later: Sequence[Envelope], ends: Counter[str]) -> str:
    if run is None or _disturbed(case, run, later):
        ends["disturbed"] += 1
        return ""
    ends[case.seen.end or "goes on"] += 1
    if not case.seen.end:
        undoes = any(event.type == facts.COMPENSATION_REQUESTED for event in later)
        return "it is undone, and that was not foreseen" if undoes and _after(case).paused_ms else ""
    return "" if run.status == case.seen.end else f"it ended {run.status}, foreseen was {case.seen.end}"


def _after(case: _Case) -> Run:
    run = case.seen.after.run(case.run.id)
    assert run is not None
    return run


def _disturbed(case: _Case, run: Run, later: Sequence[Envelope]) -> bool:
    """Return whether the world did something that foresight names as its assumption: a step or an undo answered."""
    known = {entry.id: entry.in_doubt for entry in _after(case).ledger}
    new = any(entry.id not in known or known[entry.id] != entry.in_doubt for entry in run.ledger)
    refused = {facts.COMPENSATION_FAILED, facts.COMPENSATION_DEADLINE_PASSED}
    asked = {undo.entry for undo in case.seen.undos}
    others = any(event.type in refused or (event.entry and event.entry not in asked) for event in later)
    nothing = {event.entry for event in later if event.type == facts.NOTHING_TO_COMPENSATE}
    others = others or any(not known.get(entry, True) for entry in nothing)
    return new or others or not (case.quiet or case.seen.end)


def test_what_is_foreseen_then_happens() -> None:
    """In 1,000 random histories: the facts decided at once, the order of the undos, and the end."""
    ends: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    cases, seed = 0, 0
    while cases < CASES:
        case = _case(seed)
        if case is not None:
            cases += 1
            kinds[case.fact.type] += 1
            wrong = _wrong(case, ends)
            assert not wrong, f"seed {seed}, {case.fact.type}: {wrong}\n{case.history.world.log_text()}"
        seed += 1
    assert {COMPENSATED, STUCK, TERMINATED, "goes on"} <= set(ends), ends
    assert ends["disturbed"] < cases // 3, f"too few cases show anything: {ends}"
    assert len(kinds) == 6, kinds


def test_a_wrong_foresight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Foresight that undoes the oldest effect first differs from the course of events in some case."""

    def oldest_first(*arguments: Any) -> Any:
        with monkeypatch.context() as broken:
            broken.setattr(compensation, "max", min, raising=False)
            return react(*arguments)

    monkeypatch.setattr(foresight, "react", oldest_first)
    cases = (case for seed in range(200) if (case := _case(seed)) is not None)
    assert any(_wrong(case, Counter()) for case in cases)
