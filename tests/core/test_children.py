"""Child flows: starts within a window, joins, undoing, and what passes down from the parent."""

from __future__ import annotations

from itertools import count

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.children import Children, End, with_bit
from choreo.core.definition import ChildrenDefinition
from choreo.core.events import Record
from choreo.core.react import react
from choreo.testing import child_ended, event
from choreo.testing import children as planned
from choreo.testing import given as told
from tests.core.families import Family, parent

ALL = ChildrenDefinition("parcel")


def test_all_children_complete_and_the_step_emits_their_results() -> None:
    """The join's event has the counts and the ends by place, and the parent goes on."""
    family = Family(ALL, 5).run_all()
    assert family.order.status == "completed"
    assert family.parcel_statuses == ["completed"] * 5
    joined = family.joined()
    assert (joined["completed"], joined["failed"], len(joined["results"])) == (5, 0, 5)  # type: ignore[arg-type]


def test_beyond_a_hundred_the_join_s_event_names_the_place_of_all_results() -> None:
    """It stays small; a hundred are all there, and need no place."""
    few, many = Family(ALL, 100, batch=50).run_all().joined(), Family(ALL, 101, batch=50).run_all().joined()
    assert (few["all_results"], len(few["results"])) == ("", 100)  # type: ignore[arg-type]
    assert (many["completed"], len(many["results"])) == (101, 100)  # type: ignore[arg-type]
    path, _, about = str(many["all_results"]).partition("?")
    assert path == "/flows/order/instances/o-1/children"
    assert {"step=fulfilment.split"} < set(about.split("&"))


def test_no_children_join_at_once() -> None:
    """A handler may yield nothing."""
    assert Family(ALL, 0).run_all().order.status == "completed"


def test_one_failed_child_turns_the_parent_which_undoes_all_others() -> None:
    """Children that had completed are undone too, and the parent is compensated after them."""
    family = Family(ALL, 4, refused=frozenset({3})).run_all()
    assert family.order.status == "compensated"
    assert "ParcelsFailed" in family.order.cause
    assert set(family.parcel_statuses) == {"compensated"}
    types = family.types("order")
    assert types.index(facts.CHILDREN_COMPENSATED) < types.index("StockReleased")


def test_tolerated_failures_do_not_turn_the_parent() -> None:
    """Two of five may fail; a third may not."""
    rule = replace(ALL, tolerated=2)
    family = Family(rule, 5, refused=frozenset({0, 4})).run_all()
    assert family.order.status == "completed"
    assert (family.joined()["completed"], family.joined()["failed"]) == (3, 2)
    assert Family(rule, 5, refused=frozenset({0, 2, 4})).run_all().order.status == "compensated"


def test_the_first_success_is_enough_and_the_others_are_undone() -> None:
    """A race: the parent goes on with the first, and children still open are turned."""
    family = Family(replace(ALL, first=1), 3, refused=frozenset({0})).run_all()
    assert family.order.status == "completed"
    assert family.joined()["completed"] == 1
    assert family.parcel_statuses.count("completed") >= 1


def test_a_failed_group_may_be_an_event_with_which_the_parent_goes_on() -> None:
    """Children still open are undone, completed ones stay until the parent is undone."""
    family = Family(replace(ALL, window=2), 6, refused=frozenset({1}), goes_on=True).run_all()
    assert family.order.status == "completed"
    assert "ParcelsLost" in family.types("order")
    assert facts.COMPENSATION_STARTED not in family.types("order")
    assert family.parcel_statuses[1] == "compensated"
    assert len(family.parcel_statuses) < 6
    bounced = Family(ALL, 4, refused=frozenset({3}), goes_on=True, answers={"ParcelsLost": "MailBounced"}).run_all()
    assert bounced.order.status == "compensated"
    assert set(bounced.parcel_statuses) == {"compensated"}


def test_too_few_children_for_the_first_n_fail() -> None:
    """Three successes of two children cannot come."""
    assert Family(replace(ALL, first=3), 2).run_all().order.status == "compensated"


def test_a_window_bounds_how_many_are_open() -> None:
    """Of 40 children no more than 6 are open at once, and all of them complete."""
    family = Family(replace(ALL, window=6), 40).run_all()
    assert family.order.status == "completed"
    assert 2 <= family.open_most <= 6


def test_a_failure_after_the_join_undoes_completed_children() -> None:
    """The children are one effect of their step: a later failure recalls each parcel."""
    family = Family(ALL, 3, answers={"ParcelsShipped": "MailBounced"}).run_all()
    assert family.order.status == "compensated"
    assert family.parcel_statuses == ["compensated"] * 3
    assert family.types("parcel").count("ParcelRecalled") == 3


def _until(family: Family, type_: str, name: str = "order") -> Family:
    """Let the readers go on until an event of this type stands in the log."""
    while type_ not in family.types(name):
        ready = [cursor for cursor, at in family.cursors.items() if at < len(family.logs[cursor[1]])]
        family.turn(ready[0])
    return family


def test_a_cancel_undoes_started_children_and_starts_no_more() -> None:
    """Cancelled in the middle of a window."""
    family = _until(Family(replace(ALL, window=4), 20), facts.CHILD_ENDED)
    family.say(family.order_of(facts.CANCEL_REQUESTED))
    family.run_all()
    assert family.order.status == "compensated"
    assert set(family.parcel_statuses) == {"compensated"}
    assert len(family.parcel_statuses) < 20


def test_a_pause_reaches_the_children_and_ends_with_the_parent_s() -> None:
    """The children that were started are paused; the resume lets all of them complete."""
    family = _until(Family(replace(ALL, window=4), 8), "ParcelRequested", "parcel")
    family.say(family.order_of(facts.FLOW_PAUSED))
    for _ in range(4):
        family.run_all()
    assert "paused" in family.parcel_statuses or facts.FLOW_PAUSED in family.types("parcel")
    family.say(family.order_of(facts.FLOW_RESUMED))
    family.run_all()
    assert family.order.status == "completed"


def test_a_termination_reaches_the_children() -> None:
    """Nothing is undone, in the parent or in a child that is open."""
    family = _until(Family(ALL, 4), "ParcelRequested", "parcel")
    family.say(family.order_of(facts.FLOW_TERMINATED))
    family.run_all()
    assert family.order.status == "terminated"
    assert set(family.parcel_statuses) <= {"terminated", "completed"}
    assert facts.CHILDREN_TERMINATED in family.types("order")


def test_a_child_that_cannot_be_undone_makes_the_parent_stuck() -> None:
    """A person has terminated a child: nothing undoes it, and the parent says so."""
    family = _until(Family(ALL, 2), "ParcelRequested", "parcel")
    child = next(r.event for r in family.logs["parcel"] if r.event.type == "ParcelRequested")
    family.say(replace(child, id="t", type=facts.FLOW_TERMINATED, run=child.id, parent=""))
    family.run_all()
    assert family.order.status == "stuck"
    assert "cannot be undone" in next(e.cause for e in family.order.ledger if e.step == "fulfilment.split")


def test_a_child_s_own_report_is_no_orphan_of_its_key() -> None:
    """It stands in the child's log for the bridge alone."""
    family = Family(ALL, 3).run_all()
    assert family.types("parcel").count(facts.CHILD_ENDED) == 3
    assert [state.orphans for state in family.states.values()] == [[] for _ in family.states]


def test_children_are_resumed_also_where_their_parent_completes_with_the_resume() -> None:
    """The order to them outlives a tracker that dies between the two facts."""
    begun = told(parent(replace(ALL, first=1)), "OrderPlaced", "StockReserved", planned("fulfilment.split", 3))
    begun.when(child_ended("fulfilment.split", 0), facts.FLOW_PAUSED, "OrderConfirmed")
    state, log = begun.state, begun.log
    events = [begun.envelope(event(facts.FLOW_RESUMED))]
    for number in range(2):
        record = Record("order", 0, len(log) + number, begun.now_ms, events[number])
        state, decisions = react(begun.table, state, record)
        events += decisions
    assert [fact.type for fact in events] == [facts.FLOW_RESUMED, facts.FLOW_COMPLETED, facts.CHILDREN_RESUMED]
    assert [fact.type for fact in state.runs[0].outbox] == [facts.CHILDREN_RESUMED]


def test_repeated_crossings_change_nothing() -> None:
    """The bridge starts again from the beginning: every copy is a duplicate."""
    family = Family(ALL, 3, answers={"ParcelsShipped": "MailBounced"}).run_all()
    before = [family.order.status, family.parcel_statuses, family.types("order"), family.types("parcel")]
    family.cursors["bridge", "order"] = family.cursors["bridge", "parcel"] = 0
    family.run_all()
    assert [family.order.status, family.parcel_statuses, family.types("order"), family.types("parcel")] == before


@settings(max_examples=60, deadline=None)
@given(
    choices=st.lists(st.integers(0, 5), max_size=200),
    refused=st.frozensets(st.integers(0, 5), max_size=2),
    tolerated=st.integers(0, 2),
    window=st.sampled_from([0, 2, 4]),
    again=st.integers(0, 30),
)
def test_no_order_of_reading_and_no_repetition_changes_the_end(
    choices: list[int], refused: frozenset[int], tolerated: int, window: int, again: int
) -> None:
    """Every interleaving of trackers, hosts and a bridge that begins again gives the same end."""
    family = Family(replace(ALL, tolerated=tolerated, window=window), 6, refused=refused)
    order = iter(choices)

    def choose(ready: int) -> int:
        nonlocal again
        again -= 1
        if not again:
            family.cursors["bridge", "order"] = family.cursors["bridge", "parcel"] = 0
        return next(order, 0) % ready

    family.run_all(choose)
    good = len(refused) <= tolerated
    assert family.order.status == ("completed" if good else "compensated")
    ends = ["compensated" if place in refused else "completed" for place in range(6)]
    assert family.parcel_statuses == ends if good else set(family.parcel_statuses) <= {"compensated"}
    assert not window or not good or family.open_most <= window


@settings(max_examples=100, deadline=None)
@given(
    choices=st.lists(st.integers(0, 5), max_size=300),
    refused=st.frozensets(st.integers(0, 5), max_size=2),
    rule=st.builds(replace, st.just(ALL), tolerated=st.integers(0, 1), window=st.sampled_from([0, 2, 4]))
    | st.builds(replace, st.just(ALL), first=st.integers(1, 6), window=st.sampled_from([0, 2])),
    orders=st.dictionaries(st.integers(0, 120), st.sampled_from(["cancel", "pause", "repeat"]), max_size=4),
    bounces=st.booleans(),
    goes_on=st.booleans(),
)
def test_children_follow_their_parent_to_its_end(
    choices: list[int],
    refused: frozenset[int],
    rule: ChildrenDefinition,
    orders: dict[int, str],
    bounces: bool,
    goes_on: bool,
) -> None:
    """Cancelled, paused and resumed, undone after the join: at the end nothing is open, and none is left standing."""
    answers = dict.fromkeys(("ParcelsShipped", "ParcelsLost"), "MailBounced") if bounces else None
    family = Family(rule, 6, refused=refused, answers=answers, goes_on=goes_on)
    picks, turns = iter(choices), count()

    def choose(ready: int) -> int:
        match orders.get(next(turns)):
            case "cancel" if family.states:
                family.say(family.order_of(facts.CANCEL_REQUESTED))
            case "pause" if family.states and not family.order.ended:
                family.say(family.order_of(facts.FLOW_PAUSED))
            case "repeat":
                family.cursors["bridge", "order"] = family.cursors["bridge", "parcel"] = 0
        return next(picks, 0) % ready

    family.run_all(choose)
    while family.order.paused_ms and not family.order.ended:
        family.say(family.order_of(facts.FLOW_RESUMED))
        family.run_all()
    assert family.order.status in ("completed", "compensated")
    assert set(family.parcel_statuses) <= {"completed", "compensated"}
    if family.order.status == "compensated":
        assert set(family.parcel_statuses) <= {"compensated"}
    elif rule.first and "ParcelsLost" not in family.types("order"):
        assert family.joined()["completed"] >= rule.first  # type: ignore[operator]


def test_ten_thousand_children_take_some_kilobytes_of_state() -> None:
    """Counts and bit sets, and no record of each child."""
    many = Children("fulfilment.split", "t", 1, total=10_000, size=5)
    for batch in range(many.batches):
        many = many.planned(batch, 1_000_000 + batch)
    while many.startable(ALL):
        many = replace(many, due=many.due + 1, started=with_bit(many.started, many.due))
    for place in range(10_000):
        many = many.child_ended(End(place, f"parcel-{place}", "compensated", "refused " * 20))
    assert many.all_undone
    assert len(msgspec.msgpack.encode(many)) < 40_000
