"""An adversary against the promises, on the pure core and a model of its hosts.

Crashes at every point, zombies, doubled and late events, lost answers and inboxes, pauses, cancels, clocks that run
ahead. `CHOREO_MODEL_SEEDS=4000` plays more seeds; a seed that fails prints its log.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from choreo.adapters.inbox_rules import Rows, record
from choreo.core import compensation, facts, forward, ids, ledger, react, retries
from choreo.core.events import Envelope, Record
from choreo.core.state import COMPENSATED, COMPLETED, STUCK, UNSETTLED, Run
from choreo.ports.inbox import Outcome
from tests.core.model import process, tracker
from tests.core.model.host import Host
from tests.core.model.promises import broken
from tests.core.model.scheduler import Scheduler
from tests.core.model.tracker import Tracker

SEEDS = int(os.environ.get("CHOREO_MODEL_SEEDS", "400"))
BLOCKS = 4
MUTATED_SEEDS = 600
TAKE, FORGET = Tracker.take, Host.forget


def _play(seed: int) -> tuple[Scheduler, list[str]]:
    history = Scheduler(seed)
    try:
        history.play()
    except AssertionError as endless:
        return history, [f"3: {endless}"]
    return history, broken(history)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_adversary_breaks_a_promise(block: int) -> None:
    """In any order of events: nothing lost, nothing doubled, everything undone, and the run ends."""
    endings: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        history, sentences = _play(seed)
        assert not sentences, f"seed {seed}: {sentences}\n{history.world.log_text()}"
        endings.update(run.status for run in history.tracker.state.runs)
        faults.update(history.world.happened)
    assert {COMPLETED, COMPENSATED, STUCK} <= set(endings), "the adversary is too kind, or too cruel, to show anything"
    assert len(faults) >= 12, f"only these faults fired: {sorted(faults)}"


# The adversary must be able to find what is wrong: each of these rules, broken, breaks a promise in some seed.


def _oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compensation, "max", min, raising=False)


def _no_reopening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_reopen", lambda _: None)


def _one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the tracker: a new round is requested under the number of the first."""
    monkeypatch.setattr(compensation.ids, "of_round", lambda kind, entry, _: ids.derive(kind, entry))


def _no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the fold: a failed step has left nothing."""
    for module in (forward, retries):
        monkeypatch.setattr(module, "doubt", lambda *_, **__: None)


def _end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the fold: expected steps do not hold the end."""
    unsettled = property(lambda run: any(entry.state in UNSETTLED for entry in run.ledger))
    monkeypatch.setattr(Run, "unsettled", unsettled)


def _believe_every_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the fold: a FlowCompensated ends a run that was opened again."""
    monkeypatch.setitem(react.FACTS, facts.FLOW_COMPENSATED, lambda fold, run: compensation.end(fold, run, COMPENSATED))


def _early_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the fold: a timer fact counts at any time."""
    plain = react.react
    monkeypatch.setattr(tracker, "react", lambda table, state, record: plain(table, state, _hurried(record)))


def _hurried(record: Record) -> Record:
    return replace(record, stamp_ms=max(record.stamp_ms, record.event.due_ms))


def _forgetful_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the outbox: it forgets a decision once it was made; only a live tracker publishes it."""
    monkeypatch.setattr(Tracker, "take", _take_without_outbox)


def _take_without_outbox(self: Tracker) -> None:
    TAKE(self)
    self._said = {(fact.id, fact.type) for run in self._state.runs for fact in run.outbox}


def _every_failure_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the hosts: a declared failure is certain also after a second attempt."""
    monkeypatch.setattr(process, "record", _record_certain)


def _record_certain(outcomes: list[Outcome], rows: Rows) -> tuple[list[Envelope], set[tuple[str, str]]]:
    published, changed = record(outcomes, rows)
    return [replace(event, certain=True) for event in published], changed


def _inbox_unaware_of_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the hosts: after a lost inbox attempts count from 0 again, and the next failure is certain."""
    monkeypatch.setattr(Host, "forget", _forget_unaware)


def _forget_unaware(self: Host) -> None:
    FORGET(self)
    self.forgot = -1


MUTATIONS = {
    "oldest first": _oldest_first,
    "no reopening on a late success": _no_reopening,
    "one round for ever": _one_round,
    "no doubt": _no_doubt,
    "an end that does not wait for expected steps": _end_at_once,
    "an end that is believed whatever it finds": _believe_every_end,
    "timers that count before their time": _early_timers,
    "an outbox that forgets": _forgetful_outbox,
    "certain without counting attempts": _every_failure_certain,
    "an inbox that does not know it was lost": _inbox_unaware_of_its_loss,
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_the_adversary_finds_a_rule_that_is_broken(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker that cannot fail proves nothing."""
    mutation(monkeypatch)
    assert any(_play(seed)[1] for seed in range(MUTATED_SEEDS))
