"""A key of many runs: every run keeps its last view, and every reader finds the same run of each event."""

from __future__ import annotations

from typing import Any

import pytest

from choreo.app.query.history import Attribution
from choreo.app.steps.gated_runs import GatedKey
from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.project import PartitionProjector
from choreo.core import facts, retired
from choreo.core.attribution import run_of
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Reads
from choreo.core.identity import identified
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.ports.read_model import InstanceView
from choreo.testing import Scenario, event, given
from tests.core.order import PICKED

RUNS = 3 * retired.KEPT_MAX
TABLE = FlowTable(PICKED)


def story() -> Scenario:
    """Play runs one after the other, every third one declined; picks name no run, and some come twice or late."""
    log_text, picks = given(PICKED, event("OrderPlaced", id="r0")), list[str]()
    for number in range(RUNS):
        about = {"run": f"r{number}"}
        if number:
            log_text.when(event("OrderPlaced", id=f"r{number}"))
        if number % 3 == 2:
            log_text.when(
                event("StockReserved", **about), event("PaymentDeclined", **about), event("StockReleased", **about)
            )
            continue
        log_text.when(event("StockReserved", **about), event("PaymentCharged", **about))
        picks += [f"picked-{number}"]
        for pick in (picks[0], *picks[-2:]):
            log_text.when(event("Picked", id=pick, run=""))
        log_text.when(event("OrderConfirmed", **about))
    log_text.when(event("StockReserved", run="r0"), event("OrderPlaced", id="r1"))
    return log_text


def last_views(cut: int, *, projected: bool) -> dict[str, InstanceView]:
    """Return the last view of each run, of the log in batches of so many records."""
    log, found = story().log, dict[str, InstanceView]()
    fold, project = PartitionFold(TABLE, 0, 1, lambda _: {}), PartitionProjector(TABLE, 0, 1, lambda _: {})
    for begins in range(0, len(log), cut):
        piece = log[begins : begins + cut]
        if projected:
            project.put({}, project.missing(piece))
            views = project.fold(piece, begins, begins + len(piece)).views
        else:
            fold.put({}, fold.missing(piece))
            views = fold.fold(piece, 0).views
        found |= {view.run: view for view in views}
    return found


@pytest.mark.parametrize("cut", [2, 17, 10_000])
@pytest.mark.parametrize("projected", [False, True])
def test_every_run_keeps_its_last_view(cut: int, projected: bool) -> None:
    """Also one that ends and is retired within a batch: a rebuild reads many records at once."""
    views = last_views(cut, projected=projected)
    assert len(views) == RUNS
    assert views == last_views(1, projected=False)
    assert {view.status for view in views.values()} == {"completed", "compensated"}


def test_every_reader_finds_the_same_run_of_each_event() -> None:
    """The tracker's fold, a host's gates and the history, also of events that come twice, or after their run."""
    state, host, history = KeyState(), GatedKey(), Attribution(TABLE)
    found = []
    for record in story().log:
        fact = identified(record)
        shown = history.run_of(record)
        if fact.type != "OrderPlaced":
            of_tracker, of_host = run_of(fact, state.runs, state.retired), run_of(fact, host.runs, host.retired)
            known = of_tracker.id if of_tracker else ""
            assert (of_host.id if of_host else "") == known, (record.offset, fact.type)
            assert known in (shown, ""), (record.offset, fact.type)
            found.append(known)
        state, _ = react(TABLE, state, record)
        host.read(TABLE, record)
    assert len(set(found)) > RUNS
    assert "" in found  # a late duplicate of a run that is over for good


def test_the_histories_of_stories_are_logs() -> None:
    """Offsets count from 0, as the folds above need it."""
    log: list[Record] = story().log
    assert [record.offset for record in log] == list(range(len(log)))


def test_a_child_that_is_undone_after_its_end_is_forgotten_once_it_has_ended_again() -> None:
    """A host keeps it until then, also where a fact about it stands in the log twice."""
    host, linger_ms = GatedKey(), TABLE.flow.linger_ms

    def known(type_: str, at_ms: int, id_: str = "", **fields: Any) -> set[str]:
        event = Envelope(id_ or type_, type_, "o-1", "order", "r1", **fields)
        host.read(TABLE, Record("order", 0, host.position + 1, at_ms, event), Reads(undoes=True))
        return {run.id for run in host.runs}

    known("OrderPlaced", 1, "r1", parent="a parent")
    known(facts.FLOW_COMPLETED, 2)
    known(facts.COMPENSATION_STARTED, 3)
    assert known("Picked", 3 * linger_ms) == {"r1"}
    assert host.ended_ms == 0
    known(facts.FLOW_COMPENSATED, 3 * linger_ms)
    assert known(facts.COMPENSATION_STARTED, 3 * linger_ms + 1) == {"r1"}
    assert host.ended_ms == 3 * linger_ms
    assert known("Picked", 4 * linger_ms + 1) == set()
