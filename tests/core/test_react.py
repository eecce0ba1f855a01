"""The fold is a function: it changes nothing it is given, and the same log gives the same bytes."""

from __future__ import annotations

from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode
from choreo.testing import EventLike, elapsed, event, foreign, given
from tests.core.order import PICKED

TABLE = FlowTable(PICKED)

happenings: st.SearchStrategy[EventLike] = st.sampled_from(
    [
        "OrderPlaced",
        event("OrderPlaced", id="second"),
        "StockReserved",
        "StockRejected",
        "StockReleased",
        "PaymentCharged",
        event("PaymentDeclined", certain=False),
        "PaymentDeclined",
        "PaymentRefunded",
        "Picked",
        "OrderConfirmed",
        foreign("StockReserved"),
        foreign("Picked"),
        foreign("PaymentRefunded"),
        "choreo.NothingToCompensate",
        "choreo.CompensationFailed",
        "choreo.CancelRequested",
        "choreo.FlowPaused",
        "choreo.FlowResumed",
        "choreo.FlowTerminated",
        event("choreo.StepFailed", step="payment.charge"),
        event("choreo.StepSkipped", step="payment.charge"),
        event("choreo.StepHeld", step="payment.charge"),
        event("choreo.StepAttemptFailed", step="payment.charge"),
        event("choreo.CompensationRetryRequested", step="payment.charge"),
        event("choreo.CompensationResolved", step="payment.charge"),
        elapsed("20m"),
        elapsed("2h"),
        elapsed("8d"),
    ]
)
tales = st.lists(happenings, max_size=25)


def _log(tale: list[EventLike]) -> list[Record]:
    return given(PICKED, "OrderPlaced", *tale).log


@for_all(tales)
def test_react_leaves_the_state_it_was_given_as_it_was(tale: list[EventLike]) -> None:
    """Every state stays the value it was, however many come after it."""
    states = [KeyState()]
    images = [encode(states[0])]
    for record in _log(tale):
        state, _ = react(TABLE, states[-1], record)
        states.append(state)
        images.append(encode(state))
    assert [encode(state) for state in states] == images


@for_all(tales)
def test_the_same_log_gives_the_same_bytes_and_decisions(tale: list[EventLike]) -> None:
    """Also when the state was written and read after every event, as a tracker that restarts all the time does."""
    plain, stored = KeyState(), encode(KeyState())
    for record in _log(tale):
        plain, published = react(TABLE, plain, record)
        state, published_again = react(TABLE, decode(stored), record)
        stored = encode(state)
        assert published == published_again
    assert encode(plain) == stored


@for_all(tales)
def test_what_was_read_already_changes_and_decides_nothing(tale: list[EventLike]) -> None:
    """A record at or before the state's position gives back the very state."""
    state, log = KeyState(), _log(tale)
    for record in log:
        state, _ = react(TABLE, state, record)
        for earlier in log[: record.offset + 1]:
            assert react(TABLE, state, earlier) == (state, [])


@for_all(tales)
def test_a_log_in_which_everything_stands_twice_means_the_same(tale: list[EventLike]) -> None:
    """Twins right behind their firsts change no status, no ledger and no decision of an open run."""
    once, doubled = KeyState(), KeyState()
    for record in _named(_log(tale)):
        once, published = react(TABLE, once, replace(record, offset=2 * record.offset))
        doubled, said_first = react(TABLE, doubled, replace(record, offset=2 * record.offset))
        doubled, said_twin = react(TABLE, doubled, replace(record, offset=2 * record.offset + 1))
        assert _without_offsets(published) == _without_offsets(said_first)
        assert [fact for fact in said_twin if fact.type != "choreo.CancelRefused"] == []
    assert [(run.id, run.status, _effects(run)) for run in once.runs] == [
        (run.id, run.status, _effects(run)) for run in doubled.runs
    ]


def _named(log: list[Record]) -> list[Record]:
    """Return every event with an id of its own: an event without one has no duplicate."""
    return [r if r.event.id else replace(r, event=replace(r.event, id=f"record-{r.offset}")) for r in log]


def _effects(run: object) -> list[tuple[str, str, int]]:
    return [(entry.id, entry.state, entry.round) for entry in run.ledger]  # type: ignore[attr-defined]


def _without_offsets(published: list[Envelope]) -> list[Envelope]:
    return [replace(fact, outcome=-1) for fact in published]


def test_a_state_is_small() -> None:
    """A run of the order flow, half-way, takes less than a kilobyte."""
    assert len(encode(given(PICKED, "OrderPlaced", "StockReserved", "PaymentCharged").state)) < 1_000
