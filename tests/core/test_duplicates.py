"""A duplicate has the source, id and type of its first: wherever it stands later in the log, it changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.react import react
from choreo.core.state import KeyState, Run
from choreo.testing import EventLike, Scenario, elapsed, event, foreign, given
from tests.core.order import PICKED, WIDE
from tests.core.plain import RESERVE, WaitDefinition, flow, step

LOOP = flow(
    RESERVE,
    step("quality.check", "StockReserved", "Fine", "Flawed", undone="CheckDropped"),
    step("factory.mend", "Flawed", "Mended", "Scrapped", fails="Broken", undone="MendingUndone"),
    step("quality.again", "Mended", "Flawed", "Fine", undone="SecondLookDropped"),
    step("sales.offer", "Fine", "Offered"),
    step("sales.close", "Accepted", "OrderConfirmed"),
    waits=(
        WaitDefinition("wait.Accepted", on="Offered", until="Accepted", timeout_ms=3_600_000, fails="OfferExpired"),
    ),
    hops_max=50,
)
"""A cycle whose steps return one event or several, and a wait that opens more than once."""

FLOWS = {"wait": PICKED, "two at once": WIDE, "loop": LOOP}


def _happenings(definition: FlowDefinition) -> list[EventLike]:
    """Return all events that may happen to a run of this flow, likely or not."""
    published: list[EventLike] = []
    for one in definition.steps:
        published += [*one.emits, *one.fails, *(foreign(type_) for type_ in one.emits)]
        published += [foreign(type_, id=f"{type_}-{n}") for type_ in (*one.emits, *one.fails) for n in "12"]
        published += [event(type_, step=one.name, certain=False) for type_ in one.fails]
        for fact in (facts.STEP_FAILED, facts.STEP_SKIPPED):
            published += [event(fact, step=one.name, certain=certain) for certain in (True, False)]
        published += [event(facts.STEP_ATTEMPT_FAILED, step=one.name)]
        published += [event(facts.STEP_HELD, step=one.name, n=n) for n in (1, 3)]
        published.append(event(facts.TRIGGER_IGNORED, step=one.name))
        if one.compensation:
            undone = one.compensation.emits[0]
            published += [undone, foreign(undone, id=f"{undone}-1"), foreign(undone)]
            published += [
                event(facts.COMPENSATION_RETRY_REQUESTED, step=one.name),
                event(facts.COMPENSATION_RESOLVED, step=one.name),
            ]
            published += [
                event(fact, step=one.name) for fact in (facts.NOTHING_TO_COMPENSATE, facts.COMPENSATION_FAILED)
            ]
    published += [foreign(wait.until, id=f"{wait.until}-{n}") for wait in definition.waits for n in "123"]
    published += [definition.starts, event(definition.starts, id="second")]
    published += [
        facts.CANCEL_REQUESTED,
        *[facts.FLOW_PAUSED, facts.FLOW_RESUMED] * 2,
        facts.NOTHING_TO_COMPENSATE,
        facts.COMPENSATION_FAILED,
    ]
    return [*published, elapsed("20m"), elapsed("2h")]


@st.composite
def doubled(draw: st.DrawFn, kind: str) -> tuple[list[Record], list[tuple[Record, bool]]]:
    """Return a log, and the same with duplicates of some of its records at later places; those are marked."""
    tale = draw(st.lists(st.sampled_from(_happenings(FLOWS[kind])), max_size=30))
    story = given(FLOWS[kind], "OrderPlaced")
    for spec in tale:
        if _may_happen(story, spec):
            story.when(spec)
    # A record without an id has no duplicate: a program that repeats it writes the id by which it is known.
    log = [
        replace(r, event=replace(r.event, id=identified(r).id)) for r in given(FLOWS[kind], "OrderPlaced", *tale).log
    ]
    again = draw(st.lists(st.tuples(st.sampled_from(log), st.integers(0, len(log))), max_size=6))
    mixed: list[tuple[Record, bool]] = []
    for record in log:
        mixed.append((record, False))
        mixed += [(replace(r, stamp_ms=record.stamp_ms), True) for r, at in again if r.offset + at == record.offset]
    mixed += [(replace(r, stamp_ms=log[-1].stamp_ms), True) for r, at in again if r.offset + at >= len(log)]
    return log, mixed


def _may_happen(story: Scenario, spec: EventLike) -> bool:
    """Return whether it may: an outcome of a step behind a wait stands behind what makes it ready."""
    type_ = spec if isinstance(spec, str) else getattr(spec, "type", "")
    gated = {one.name for one in story.table.flow.steps if one.on in story.table.satisfies}
    about = getattr(spec, "fields", {}).get("step", "")
    makers = gated & {about, *story.table.successes.get(type_, ()), *story.table.failures.get(type_, ())}
    return makers <= {expected.step for run in story.runs[:1] for expected in run.expected}


@pytest.mark.parametrize("kind", FLOWS)
def test_a_duplicate_changes_and_decides_nothing(kind: str) -> None:
    """Right behind its first or much later: its trigger settled, on a cycle, of a foreign event, after the end."""
    table = FlowTable(FLOWS[kind])

    @settings(max_examples=400, deadline=None)
    @for_all(doubled(kind))
    def checked(logs: tuple[list[Record], list[tuple[Record, bool]]]) -> None:
        log, mixed = logs
        once, twice = KeyState(), KeyState()
        plain = iter(log)
        for place, (record, duplicate) in enumerate(mixed):
            twice, said_twice = react(table, twice, replace(record, offset=place))
            if duplicate:
                assert [fact.type for fact in said_twice if fact.type != facts.CANCEL_REFUSED] == [], _spec_of(
                    mixed, place
                )
            else:
                once, published = react(table, once, replace(next(plain), offset=place))
                assert _ids(published) == _ids(said_twice), _spec_of(mixed, place)
            assert [_matters(run) for run in twice.runs] == [_matters(run) for run in once.runs], _spec_of(mixed, place)

    checked()


def _ids(published: Sequence[Envelope]) -> list[tuple[str, str]]:
    return [(fact.id, fact.type) for fact in published if fact.type != facts.CANCEL_REFUSED]


def _matters(run: Run) -> list[Any]:
    """Return all that a run's future depends on, but not where in the log its last event stands."""
    return [
        (
            run.id,
            run.status,
            run.cause,
            run.due_ms,
            run.compensating,
            run.announced,
            run.completes_seen,
            run.completing,
        ),
        (run.ending, run.ends, run.stucks, run.paused_ms, run.pause_n, run.ended_ms, run.closed),
        [(e.step, e.trigger, e.due_ms, e.attempt, e.retry_ms, e.answers, e.held) for e in run.expected],
        [(e.step, e.trigger, e.state, e.in_doubt, e.round, e.nothings, e.cause, e.due_ms) for e in run.ledger],
        [(e.attempt, e.retry_ms, e.answers, e.held, e.doubted, e.cleared) for e in run.ledger],
        [(wait.name, wait.trigger, wait.due_ms) for wait in run.waits],
        _ids(run.outbox),
    ]


def _spec_of(mixed: Sequence[tuple[Record, bool]], place: int) -> str:
    return "\n".join(
        f"{n} +{r.stamp_ms - mixed[0][0].stamp_ms} {'again ' if again else ''}{r.event.type} id={r.event.id[:8]}"
        f" step={r.event.step} cause={r.event.causation[:8]} trigger={r.event.trigger[:8]} certain={r.event.certain}"
        f" round={r.event.round} n={r.event.n} attempt={r.event.attempt} run={r.event.run[:6]} {r.event.reason}"
        for n, (r, again) in enumerate(mixed[: place + 1])
    )
